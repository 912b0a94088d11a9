"""Runs a worker as a process on this machine, through Dagster Pipes.

Pipes streams logs and metrics into the run and passes a cancellation on; the process frees its memory
when it ends.
"""

import json
import os
import tempfile
from pathlib import Path

import dagster as dg

from ft_assets.children import environment, launched, python
from ft_assets.errors import StageError, UserError
from ft_assets.stages.job import Job, Outcome
from ft_assets.stages.training.checkpoints import kept_steps
from ft_assets.worker import JOB_FILE, OUTCOME_FILE

_END_SECONDS = 60.0
"""How long an interrupted worker may take to end its step and save it."""


class LocalCompute:
    """This machine."""

    def run(self, context: dg.AssetExecutionContext, job: Job) -> Outcome:
        """Runs `job` in a worker process and returns its outcome.

        Raises the UserError or StageError with which the worker failed, or a StageError if it died
        without an outcome file.
        """
        with tempfile.TemporaryDirectory(prefix="ft-assets-job-") as scratch:
            job.dump(Path(scratch) / JOB_FILE)
            outcome = Path(scratch) / OUTCOME_FILE
            command = python("ft_assets.worker", scratch, str(os.getpid()))
            # Pipes passes this process's whole environment to the child: the launcher filters it.
            client = dg.PipesSubprocessClient(
                env=environment("trainer"), cwd=scratch, termination_timeout_seconds=_END_SECONDS
            )
            try:
                client.run(context=context, command=launched("trainer", command))
            except dg.DagsterExecutionInterruptedError:
                raise
            except Exception as error:  # the client's own error type is private
                if not outcome.exists():
                    raise StageError(
                        f"the worker for {job.asset} died: {error}. If it was killed, the "
                        "machine may be out of memory: lower training.per_device_train_batch_size or "
                        f"training.max_length{_kept(job)}"
                    ) from error
            return read_outcome(json.loads(outcome.read_text()))


def _kept(job: Job) -> str:
    """What of a training that died is not lost."""
    kept = kept_steps(job.checkpoints) if job.checkpoints else ""
    return f". {kept} are kept: refresh resumes from there with the same settings" if kept else ""


def read_outcome(content: dict[str, dict[str, object]]) -> Outcome:
    """The outcome that a worker wrote. Raises the error instead if the worker failed."""
    if error := content.get("error"):
        kind = UserError if error["is_user_error"] else StageError
        raise kind(str(error["message"]))
    return Outcome(**content["outcome"])  # type: ignore[arg-type]
