"""The ends of Dagster's runs: runs whose process died are closed."""

import os
from datetime import UTC, datetime

import dagster as dg
import psutil

from ft_assets.defs.internals import free_pool_slots, pool_runs, process_of, started_at
from ft_assets.defs.tags import PROCESS_TAG

_OPEN = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_CLOCK_SECONDS = 2.0
"""How far a process's start and a run's may be off against each other."""


def close_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Marks as failed each run that is open though its process on this machine is gone.

    Dagster's own launcher cannot tell after a crash of the machine, or of the process that started
    the run. What such runs, and those that are over, still hold in pools is given back. Returns the
    ids of the runs that were closed.
    """
    closed = []
    for run in instance.get_runs(dg.RunsFilter(statuses=_OPEN)):
        if _is_dead(instance, run):
            instance.report_run_failed(
                run,
                "its process no longer exists; published artifacts are kept: refresh to continue",
            )
            free_pool_slots(instance, run.run_id)
            closed.append(run.run_id)
    for run_id in pool_runs(instance):
        held = instance.get_run_by_id(run_id)
        if held is None or held.is_finished:
            free_pool_slots(instance, run_id)
    return closed


def this_process() -> str:
    """This process, so that no later one with its id is taken for it."""
    return f"{os.getpid()} {psutil.Process().create_time()}"


def _is_dead(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the process of an open run is gone; a run that nobody began yet has none."""
    if named := _process_named(run):
        number, created = named
        began_at = _beginning(number)
        return began_at is None or began_at != created
    if run.status == dg.DagsterRunStatus.NOT_STARTED:
        return False
    began = started_at(instance, run.run_id)
    if began < datetime.fromtimestamp(psutil.boot_time(), UTC):
        return True
    pid = process_of(instance, run.run_id)
    if pid is None or pid == os.getpid():
        return False
    began_at = _beginning(pid)
    return began_at is None or began_at > began.timestamp() + _CLOCK_SECONDS


def _process_named(run: dg.DagsterRun) -> tuple[int, float] | None:
    """The process in a run's tag and when it began; None for a tag that cannot be read, which tells
    nothing: whoever may launch a run may write its tags.
    """
    try:
        number, created = run.tags.get(PROCESS_TAG, "").split()
        return int(number), float(created)
    except ValueError:
        return None


def _beginning(pid: int) -> float | None:
    """When a process began; None if no process of that number is running."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except (
        psutil.NoSuchProcess,
        OverflowError,
        ValueError,
    ):  # the last two: no number of a process
        return None


def has_died(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run ended without a step of it having failed: it was killed, or interrupted.

    One that a person cancelled has not died.
    """
    if run.status != dg.DagsterRunStatus.FAILURE:
        return False
    failed = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    errors = [event.step_failure_data.error for entry in failed if (event := entry.dagster_event)]
    interrupted = dg.DagsterExecutionInterruptedError.__name__
    return all(error is not None and error.cls_name == interrupted for error in errors)
