"""The only file that touches Dagster's private names; each has a contract test.

Tried on Dagster 1.13.27.
"""

import time
from datetime import datetime

import dagster as dg


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
    """The process that executes a run, by the run's own events; None where it never began to."""
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    for entry in reversed(events):
        event = entry.dagster_event
        pid = event.engine_event_data.metadata.get("pid") if event else None
        if pid is not None:
            return int(str(pid.value))
    return None


def started_at(instance: dg.DagsterInstance, run_id: str) -> datetime:
    """When a run began, or where it has not, when it was made; in UTC."""
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
