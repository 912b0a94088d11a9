"""Which Message Batches are under way: `<keep>/batches.jsonl`, small enough to be looked at often.

A batch has a name of ours from before it is sent, which the ledger's lines of its requests carry, and an
id of the service's from when its creation was answered. What happens in between, a crash or an answer
that is lost, leaves a batch without an id: whether there is one is then looked up.
"""

from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from ft_assets.stages.qa.ledger.journal import Journal, Line

BATCHES = "batches.jsonl"
BatchEvent = Literal["sent", "created", "not_ours", "over"]


@dataclass
class Batch:
    """A batch as the log has it; `answers` once it is `over`."""

    name: str
    requests: int
    sent: datetime
    id: str = ""
    not_ours: set[str] = field(default_factory=set)
    """Ids that were taken for its own, and had the requests of others."""
    over: bool = False
    answers: int = 0


class BatchLog:
    """The log of a ledger's folder. It is written by the one process that has the ledger open."""

    def __init__(self, folder: Path) -> None:
        self.batches: dict[str, Batch] = {}
        events = {
            "sent": self._sent,
            "created": self._created,
            "not_ours": self._not_ours,
            "over": self._over,
        }
        loss = "a batch under way may then be lost, and paid for again"
        self._journal = Journal(folder / BATCHES, events, loss)

    def _sent(self, line: Line, offset: int) -> None:
        sent = datetime.fromisoformat(line["at"])
        self.batches[line["batch"]] = Batch(line["batch"], line["requests"], sent)

    def _created(self, line: Line, offset: int) -> None:
        self.batches[line["batch"]].id = line["id"]

    def _not_ours(self, line: Line, offset: int) -> None:
        batch = self.batches[line["batch"]]
        batch.not_ours.add(line["id"])
        batch.id = ""

    def _over(self, line: Line, offset: int) -> None:
        batch = self.batches[line["batch"]]
        batch.over, batch.answers = True, line["answers"]

    @property
    def under_way(self) -> list[Batch]:
        """The batches whose results are not in the ledger yet, the oldest first."""
        return [batch for batch in self.batches.values() if not batch.over]

    @property
    def fruitless(self) -> int:
        """How many batches came back without a single answer since the last that had one."""
        count = 0
        for batch in reversed([batch for batch in self.batches.values() if batch.over]):
            if batch.answers:
                break
            count += 1
        return count

    def write(self, event: BatchEvent, batch: str, **said: str | int) -> None:
        """Appends an event; it is on disk once this returns."""
        with closing(self._journal.open()) as journal:
            journal.append(event, {"batch": batch, **said})
