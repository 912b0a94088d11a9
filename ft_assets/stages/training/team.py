"""The processes that share one training: one, or several that accelerate started.

Only the first reports, evaluates, and writes checkpoints, logs and the adapter. The others train their share of
each batch.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ft_assets.stages.job import Report
from ft_assets.stages.training.interruption import Interruptible, Interruption

Value = TypeVar("Value")


class Team:
    """A training in this process alone."""

    size = 1
    is_first = True

    def interruption(self, report: Report) -> Interruptible:
        """What says that the training is to end after this step."""
        return Interruption(report)

    def agree(self, asked: bool, due: bool) -> tuple[bool, bool]:
        """Whether any process was interrupted, and whether the first one's checkpoint is due."""
        return asked, due

    def share(self, work: Callable[[], Value]) -> Value:
        """What `work` gives, done once."""
        return work()

    def files(self, write: Callable[[str], None]) -> dict[str, bytes]:
        """The files that `write` writes into a folder, of all processes."""
        with tempfile.TemporaryDirectory(prefix="ft-assets-trainer-") as folder:
            write(folder)
            return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


ALONE = Team()


class Ranks(Team):
    """One of several processes; each method is called by all of them, in the same order."""

    def __init__(self, rank: int, size: int, interruption: Interruptible) -> None:
        self.size = size
        self.is_first = rank == 0
        self._interruption = interruption

    def interruption(self, report: Report) -> Interruptible:
        """That of this process; the interrupt comes through the launcher's input."""
        return self._interruption

    def agree(self, asked: bool, due: bool) -> tuple[bool, bool]:
        """Whether any process was interrupted, and whether the first one's checkpoint is due."""
        every = self._all((asked, due))
        return any(one for one, _ in every), every[0][1]

    def share(self, work: Callable[[], Value]) -> Value:
        """What `work` gives in the first process."""
        import torch

        held: list[Any] = [work() if self.is_first else None]
        torch.distributed.broadcast_object_list(held, src=0)
        value: Value = held[0]
        return value

    def files(self, write: Callable[[str], None]) -> dict[str, bytes]:
        """The files that `write` writes into a folder, of all processes."""
        return {
            name: file for each in self._all(super().files(write)) for name, file in each.items()
        }

    def _all(self, mine: Value) -> list[Value]:
        import torch

        every: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(every, mine)
        return every
