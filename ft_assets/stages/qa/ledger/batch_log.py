"""The pending Message Batches: `<keep>/batches.jsonl`, small enough to be read often.

A batch gets a name from us before it is sent, which is in the ledger's lines of its requests, and an id
from the service when its creation is answered. A crash or a lost answer in between leaves a batch
without an id; the id is then looked up.
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
    """A batch in the log; `answers` is set once it is `over`."""

    name: str
    requests: int
    sent: datetime
    id: str = ""
    not_ours: set[str] = field(default_factory=set)
    """Ids that were taken for its own but turned out to hold others' requests."""
    over: bool = False
    answers: int = 0


class BatchLog:
    """The log in a ledger's folder. Only the process that has the ledger open writes it."""

    def __init__(self, folder: Path) -> None:
        self.batches: dict[str, Batch] = {}
        events = {
            "sent": self._sent,
            "created": self._created,
            "not_ours": self._not_ours,
            "over": self._over,
        }
        loss = "a pending batch may then be lost, and paid for again"
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
        """The batches whose results are not in the ledger yet, oldest first."""
        return [batch for batch in self.batches.values() if not batch.over]

    @property
    def fruitless(self) -> int:
        """The number of batches without a single answer since the last one that had an answer."""
        count = 0
        for batch in reversed([batch for batch in self.batches.values() if batch.over]):
            if batch.answers:
                break
            count += 1
        return count

    def write(self, event: BatchEvent, batch: str, **said: str | int) -> None:
        """Appends an event; it is on disk when this returns."""
        with closing(self._journal.open()) as journal:
            journal.append(event, {"batch": batch, **said})
