"""Dagster's private names: used here and in `internals_storage.py` only; each has a contract test.

Tried on Dagster 1.13.27.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from ft_assets.defs.tags import GROUPS

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def forget_cached_inputs(context: dg.AssetExecutionContext, keys: list[dg.AssetKey]) -> None:
    """Makes the running step look its inputs' versions up again when it records its provenance.

    Dagster reads them at step start, which is before the body has reported the files and settings
    that it read; without this a freshly made asset can be marked stale at once.
    """
    step = context.get_step_execution_context()
    for key in keys:
        step._data_version_cache.wipe_input_asset_version_info(key)


def stale_status(
    instance: dg.DagsterInstance, definitions: dg.Definitions, assets: list[str], corpus: str
) -> dict[str, str]:
    """Dagster's own word on each asset of a corpus: `FRESH`, `STALE` or `MISSING`.

    About 12 ms an asset, so for one corpus at a time.
    """
    from dagster._core.definitions.data_version import CachingStaleStatusResolver
    from dagster._core.loader import LoadingContextForTest

    graph = definitions.resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    return {asset: resolver.get_status(dg.AssetKey(asset), corpus).value for asset in assets}


def process_of(instance: dg.DagsterInstance, run_id: str) -> int | None:
    """The process that executes a run, by the run's own events; None if it never began."""
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    for entry in reversed(events):
        event = entry.dagster_event
        pid = event.engine_event_data.metadata.get("pid") if event else None
        if pid is not None:
            return int(str(pid.value))
    return None


def started_at(instance: dg.DagsterInstance, run_id: str) -> datetime:
    """When a run began, or if it has not, when it was created; in UTC."""
    record = instance.get_run_record_by_id(run_id)
    if record is None:
        raise KeyError(run_id)
    if record.start_time is None:
        return record.create_timestamp
    return datetime.fromtimestamp(record.start_time, record.create_timestamp.tzinfo)


def pool_runs(instance: dg.DagsterInstance) -> set[str]:
    """The runs that hold a slot of a pool, or wait for one."""
    storage = instance.event_log_storage
    found: set[str] = set()
    for key in storage.get_concurrency_keys():
        info = storage.get_concurrency_info(key)
        found |= {slot.run_id for slot in info.claimed_slots}
        found |= {step.run_id for step in info.pending_steps}
    return found


def free_pool_slots(instance: dg.DagsterInstance, run_id: str) -> None:
    """Gives back what the steps of a run that is over held in a pool."""
    instance.event_log_storage.free_concurrency_slots_for_run(run_id)


def wait_quietly_for_pools() -> None:
    """Lets a step that waits for a pool sleep until it is to ask again, a second at most.

    The in-process executor of Dagster 1.13 takes that time to be nought and so keeps a core busy for
    as long as another run's training lasts.
    """
    from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext

    def interval(self: InstanceConcurrencyContext) -> float:
        waits = [ready_at - time.time() for ready_at in self._pending_timeouts.values()]
        return min(1.0, max(0.0, min(waits))) if waits else 0.0

    InstanceConcurrencyContext.interval_to_next_pending_claim_check = interval  # type: ignore[method-assign]


def tell_of_pool_waits(tell: Callable[[dg.DagsterInstance, str, str, list[str]], None]) -> None:
    """Has `tell` called when a step begins to wait for a place in a pool.

    It is given the instance, the run's id, the step, and the ids of the runs that have the places.
    """
    from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext

    claim = InstanceConcurrencyContext.claim

    def telling(
        self: InstanceConcurrencyContext,
        concurrency_key: str,
        step_key: str,
        step_priority: int = 0,
    ) -> bool:
        waits_already = step_key in self._pending_claims
        claimed = claim(self, concurrency_key, step_key, step_priority)
        if not claimed and not waits_already:
            info = self._instance.event_log_storage.get_concurrency_info(concurrency_key)
            others = sorted({slot.run_id for slot in info.claimed_slots})
            tell(self._instance, self._run_id, step_key, others)
        return claimed

    InstanceConcurrencyContext.claim = telling  # type: ignore[method-assign]


@contextmanager
def code_server(
    instance: dg.DagsterInstance, module: str, working_directory: Path, workspace: Path
) -> Iterator[None]:
    """Loads a module's definitions in a process of its own, as `dagster dev` does.

    Writes to `workspace` the file by which Dagster's web server and daemon find that process. The
    working directory is on that process's path, even under PYTHONSAFEPATH.
    """
    from dagster._cli.proxy_server_manager import ProxyServerManager
    from dagster._core.workspace.load_target import ModuleTarget

    target = ModuleTarget(module, None, str(working_directory), None)
    with ProxyServerManager(instance, target, code_server_log_level="WARNING") as manager:
        specs = manager.get_code_server_specs()
        workspace.write_text(json.dumps({"load_from": specs}), encoding="utf-8")  # JSON is YAML
        yield


@contextmanager
def web_application(instance: dg.DagsterInstance, workspace: Path | None) -> Iterator["ASGIApp"]:
    """Dagster's web application over the locations of a workspace file; over none without one."""
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import EmptyWorkspaceTarget, WorkspaceFileTarget
    from dagster_webserver.app import create_app_from_workspace_process_context
    from dagster_webserver.version import __version__

    target = WorkspaceFileTarget([str(workspace)]) if workspace else EmptyWorkspaceTarget()
    with WorkspaceProcessContext(instance, target, version=__version__) as context:
        yield create_app_from_workspace_process_context(context, live_data_poll_rate=2000)


def asset_graph_page() -> str:
    """The path of the asset graph with all groups expanded. By default Dagster shows them collapsed."""
    groups = ",".join(f"global@global:{group}" for group in GROUPS)
    return f"/asset-groups?expanded={groups}"


def daemon_command(workspace: Path) -> list[str]:
    """Runs Dagster's daemon over the locations of a workspace file."""
    command = [sys.executable, "-P", "-W", "ignore", "-m", "dagster._daemon", "run"]
    return [*command, "--log-level", "warning", "--workspace", str(workspace)]
