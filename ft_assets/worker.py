"""Runs one heavy stage in its own process: `python -m ft_assets.worker FOLDER PARENT`.

FOLDER contains the job file; the outcome, or the error, is written next to it. PARENT is the id of the
process that waits for the worker; the worker ends soon after it. The same worker and job file run on
this machine or elsewhere, with or without Dagster Pipes.
"""

import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from dagster_pipes import PipesEnvVarParamsLoader, open_dagster_pipes

from ft_assets.engine.graph import run_stage
from ft_assets.errors import INTERRUPTED, StageError, UserError, no_room
from ft_assets.stages.job import Job, Report

JOB_FILE = "job.json"
OUTCOME_FILE = "outcome.json"


@contextmanager
def reporting() -> Iterator[Report]:
    """Yields a function that prints progress to standard error and, under Dagster Pipes, also logs it to
    the run.
    """

    def say(line: str) -> None:
        if not line.startswith("Traceback") or os.environ.get("FT_ASSETS_DEBUG"):
            print(f"  {line}", file=sys.stderr, flush=True)

    if not PipesEnvVarParamsLoader().is_dagster_pipes_process():  # type: ignore[no-untyped-call]
        yield say
        return
    with open_dagster_pipes() as pipes:

        def report(line: str) -> None:
            say(line)
            pipes.log.info(line)

        yield report


def described(error: Exception, output: Path) -> dict[str, object]:
    """An error as written to the outcome file: its message, and whether it is a UserError."""
    if isinstance(error, OSError):
        error = no_room(error, output) or error
    known = isinstance(error, UserError | StageError)
    message = str(error) if known else f"{type(error).__name__}: {error}"
    return {"is_user_error": isinstance(error, UserError), "message": message}


def run_job(folder: Path) -> int:
    """Runs the job in `folder`, writes its outcome there, and returns the exit code (0 or 1)."""
    job = Job.load(folder / JOB_FILE)
    with reporting() as report:
        content: dict[str, object]
        try:
            content = {"outcome": asdict(run_stage(job, report))}
        except Exception as error:
            content = {"error": described(error, job.output)}
            if not isinstance(error, UserError | StageError):
                report(traceback.format_exc())
        (folder / OUTCOME_FILE).write_text(json.dumps(content))
    return 1 if "error" in content else 0


def quiet_libraries() -> None:
    """Turns off the libraries' progress bars, warnings and telemetry; call it before importing them."""
    for name, value in {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
        "TOKENIZERS_PARALLELISM": "true",
    }.items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


_PARENT_POLL_SECONDS = 1.0


def end_with_parent(parent: int) -> None:
    """Kills this process soon after its parent has ended, because nobody waits for its work then."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    os.dup2(2, 1)  # standard output belongs to the caller's report
    end_with_parent(int(sys.argv[2]))
    quiet_libraries()
    try:
        sys.exit(run_job(Path(sys.argv[1])))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
