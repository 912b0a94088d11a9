"""Contract tests: what each private Dagster name must do, and what breaks if it does not."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver

from ft_assets.defs.internals import (
    code_server,
    daemon_command,
    forget_cached_inputs,
    free_pool_slots,
    process_of,
    stale_status,
    started_at,
    wait_quietly_for_pools,
    web_application,
)
from ft_assets.defs.runs import close_dead_runs
from ft_assets.defs.tags import PROCESS_TAG


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as made:
        yield made


def _definitions(forgets: bool) -> dg.Definitions:
    """An asset that reports what it read only in its body, as ours do."""
    partitions = dg.StaticPartitionsDefinition(["c"])

    @dg.observable_source_asset(name="files", partitions_def=partitions)
    def files() -> dg.DataVersionsByPartition:
        return dg.DataVersionsByPartition({})

    @dg.asset(name="made", deps=["files"], partitions_def=partitions)
    def made(context: dg.AssetExecutionContext) -> None:
        key = dg.AssetKey("files")
        version = context.run.tags["version"]
        context.instance.report_runless_asset_event(
            dg.AssetObservation(key, partition="c", tags={"dagster/data_version": version})
        )
        if forgets:
            forget_cached_inputs(context, [key])

    return dg.Definitions([files, made], executor=dg.in_process_executor)


def _run(instance: dg.DagsterInstance, definitions: dg.Definitions, version: str) -> str:
    job = definitions.resolve_implicit_global_asset_job_def()
    done = job.execute_in_process(instance=instance, partition_key="c", tags={"version": version})
    assert done.success
    return done.run_id


def test_a_step_forgets_the_versions_it_looked_up_at_its_start(
    instance: dg.DagsterInstance,
) -> None:
    definitions = _definitions(forgets=True)
    assert stale_status(instance, definitions, ["made"], "c") == {"made": "MISSING"}
    for version in ("one", "two"):
        _run(instance, definitions, version)
        assert stale_status(instance, definitions, ["made"], "c") == {"made": "FRESH"}, (
            "StepExecutionContext._data_version_cache.wipe_input_asset_version_info no longer "
            "makes Dagster look again: what is edited and materialized at once is marked Unsynced"
        )


def test_without_that_dagster_marks_it_stale(instance: dg.DagsterInstance) -> None:
    definitions = _definitions(forgets=False)
    for version in ("one", "two"):
        _run(instance, definitions, version)
    assert stale_status(instance, definitions, ["made"], "c") == {"made": "STALE"}, (
        "Dagster looks inputs up after the body now: forget_cached_inputs can go"
    )


def test_the_resolver_is_where_it_was() -> None:
    assert hasattr(CachingStaleStatusResolver, "get_status"), "refresh cannot ask Dagster's marks"


def test_a_run_knows_its_process_and_its_start(instance: dg.DagsterInstance) -> None:
    before = datetime.now(UTC).timestamp()
    run_id = _run(instance, _definitions(forgets=True), "one")
    assert process_of(instance, run_id) == os.getpid(), (
        "runs no longer record their process: runs left STARTED after a crash are never closed"
    )
    assert before - 1 < started_at(instance, run_id).timestamp() < before + 60
    assert process_of(instance, "never-run") is None


_DYING = """
    import os, sys
    import dagster as dg

    @dg.asset(pool="worker")
    def dying() -> None:
        os.kill(os.getpid(), 9)

    with dg.DagsterInstance.get() as instance:
        definitions = dg.Definitions([dying], executor=dg.in_process_executor)
        job = definitions.resolve_implicit_global_asset_job_def()
        job.execute_in_process(instance=instance)
"""


def test_a_run_whose_process_died_is_closed_and_its_pool_slot_freed(tmp_path: Path) -> None:
    from ft_assets.defs.instance import dagster_home

    home = os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = str(tmp_path / "home")
    try:
        dagster_home()
        command = [sys.executable, "-c", textwrap.dedent(_DYING)]
        assert subprocess.run(command, capture_output=True).returncode == -9
        with dg.DagsterInstance.get() as instance:
            [run] = instance.get_runs()
            assert run.status == dg.DagsterRunStatus.STARTED
            claimed = instance.event_log_storage.get_concurrency_info("worker")
            assert claimed.active_run_ids == {run.run_id}
            assert close_dead_runs(instance) == [run.run_id]
            [run] = instance.get_runs()
            assert run.status == dg.DagsterRunStatus.FAILURE
            claimed = instance.event_log_storage.get_concurrency_info("worker")
            assert not claimed.active_run_ids, "a training killed once blocks all that follow"
            assert close_dead_runs(instance) == []
            free_pool_slots(instance, run.run_id)
    finally:
        os.environ.pop("DAGSTER_HOME")
        if home is not None:
            os.environ["DAGSTER_HOME"] = home


def test_a_run_that_lives_is_not_closed(instance: dg.DagsterInstance) -> None:
    closed: list[str] = []

    @dg.asset
    def looking(context: dg.AssetExecutionContext) -> None:
        closed.extend(close_dead_runs(context.instance))

    definitions = dg.Definitions([looking], executor=dg.in_process_executor)
    assert _run_unpartitioned(instance, definitions)
    assert closed == []


def _run_unpartitioned(instance: dg.DagsterInstance, definitions: dg.Definitions) -> bool:
    job = definitions.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance).success


def test_who_waits_for_a_pool_sleeps() -> None:
    from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext

    class Waiting:
        _pending_claims: ClassVar = {"step"}
        _pending_timeouts: ClassVar = {"step": time.time() + 60}

    wait_quietly_for_pools()
    interval = InstanceConcurrencyContext.interval_to_next_pending_claim_check
    assert interval(Waiting()) == 1.0, "a run that waits for a training keeps a core busy"  # type: ignore[arg-type]


def test_the_daemon_takes_what_it_is_started_with() -> None:
    from dagster._daemon.cli import run_command

    options = {name for parameter in run_command.params for name in parameter.opts}
    given = {word for word in daemon_command(Path("w")) if word.startswith("--")}
    assert given <= options, "ft-assets ui cannot start Dagster's daemon"


@pytest.mark.slow
def test_web_server_and_daemon_find_one_code_server(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    from starlette.testclient import TestClient

    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "graph.py").write_text("import dagster; defs = dagster.Definitions()")
    workspace = tmp_path / "workspace.yaml"
    with (
        code_server(instance, "graph", tmp_path / "there", workspace),
        web_application(instance, workspace) as app,
    ):
        query = "{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus } } } }"
        answer = TestClient(app).post("/graphql", json={"query": query}).json()
    [entry] = answer["data"]["workspaceOrError"]["locationEntries"]
    assert entry == {"name": "graph", "loadStatus": "LOADED"}, (
        "ProxyServerManager or WorkspaceProcessContext changed: ft-assets ui serves no definitions"
    )


@pytest.mark.parametrize("tag", ["boom", "1 2 3", f"{'9' * 40} 1.0", "-1 nan", ""])
def test_a_tag_that_cannot_be_read_is_not_an_error(tmp_path: Path, tag: str) -> None:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        run = dg.DagsterRun(
            "refresh", tags={PROCESS_TAG: tag}, status=dg.DagsterRunStatus.NOT_STARTED
        )
        instance.add_run(run)
        close_dead_runs(instance)
        assert instance.get_run_by_id(run.run_id)
