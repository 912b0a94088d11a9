"""One of several processes of a training, started by accelerate: `-m ft_assets.stages.training.rank FOLDER`.

FOLDER holds the work; the first process writes the result there, any that fails its error. Standard input comes
from the worker: a byte means that the training is to end after this step, its end that the worker is gone.
"""

import json
import os
import signal
import sys
import threading
import traceback
import warnings
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from ft_assets.errors import StageError, UserError
from ft_assets.stages.training.processes import ERROR, RESULT, WORK
from ft_assets.stages.training.team import Ranks
from ft_assets.stages.training.work import Work

_LONGEST_WAIT = timedelta(days=7)
"""One process may wait for the first, which answers general prompts or evaluates."""


class FromInput:
    """An interruption that comes through standard input."""

    asked = False

    def __enter__(self) -> "FromInput":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def step_ended(self) -> None:
        """The worker waits as long as we say something."""

    def watch(self) -> None:
        """Waits for a byte or the end of input."""
        while os.read(0, 1):
            self.asked = True
        os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path) -> int:
    """Does this process's part of the work; the exit code."""
    import torch
    from accelerate import PartialState

    interruption = FromInput()
    threading.Thread(target=interruption.watch, daemon=True).start()
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=_LONGEST_WAIT)
    team = Ranks(state.process_index, state.num_processes, interruption)
    ours = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def report(line: str) -> None:
        if team.is_first:
            print(json.dumps({"report": line}), file=ours, flush=True)

    try:
        trained = Work.load(folder / WORK).run(report, team)
    except KeyboardInterrupt:
        return 0
    except Exception as error:
        known = isinstance(error, UserError | StageError)
        said = {
            "is_user_error": isinstance(error, UserError),
            "is_known": known,
            "message": str(error) if known else f"{type(error).__name__}: {error}",
        }
        (folder / ERROR.format(state.process_index)).write_text(json.dumps(said))
        traceback.print_exc()
        return 1
    if team.is_first:
        (folder / RESULT).write_text(json.dumps(asdict(trained)))
    return 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    code = main(Path(sys.argv[1]))
    sys.stderr.flush()
    os._exit(code)  # others may wait for nothing that happens at Python's end
