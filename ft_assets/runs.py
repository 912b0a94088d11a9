"""The ends of Dagster's runs: those whose process died without a word are closed."""

import os
from datetime import UTC, datetime

import dagster as dg
import psutil

from ft_assets.dagster_internals import free_pool_slots, process_of, started_at

_OPEN = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_CLOCK_SECONDS = 2.0
"""How far a process's start and a run's may be off against each other."""


def close_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Marks as failed each run that is open though its process on this machine is gone.

    Dagster's own launcher cannot tell after a crash of the machine, or of the process that started
    the run. What the run held in pools is given back. Returns the runs' ids.
    """
    closed = []
    for run in instance.get_runs(dg.RunsFilter(statuses=_OPEN)):
        if _is_dead(instance, run.run_id):
            instance.report_run_failed(
                run, "its process is gone; what it had published is kept: refresh goes on"
            )
            free_pool_slots(instance, run.run_id)
            closed.append(run.run_id)
    return closed


def _is_dead(instance: dg.DagsterInstance, run_id: str) -> bool:
    began = started_at(instance, run_id)
    if began < datetime.fromtimestamp(psutil.boot_time(), UTC):
        return True
    pid = process_of(instance, run_id)
    if pid is None or pid == os.getpid():
        return False
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        return process.create_time() > began.timestamp() + _CLOCK_SECONDS
    except psutil.NoSuchProcess:
        return True


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
