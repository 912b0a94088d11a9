"""Which Message Batches are under way: `<keep>/batches.jsonl`, small enough to be looked at often.

A batch has a name of ours from before it is sent, which the ledger's lines of its requests carry, and an
id of the service's from when its creation was answered. What happens in between, a crash or an answer
that is lost, leaves a batch without an id: whether there is one is then looked up.
"""

import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ft_assets.files import sync_folder
from ft_assets.stages.qa.ledger.journal import replay

BATCHES = "batches.jsonl"


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
        self.path = folder / BATCHES
        self.batches: dict[str, Batch] = {}
        loss = "a batch under way may then be lost, and paid for again"
        self._size = replay(self.path, lambda line, _: self._take(line), loss)

    def _take(self, line: dict[str, Any]) -> None:
        name, event = line["batch"], line["event"]
        if event == "sent":
            sent = datetime.fromisoformat(line["at"])
            self.batches[name] = Batch(name, line["requests"], sent)
            return
        batch = self.batches[name]
        if event == "created":
            batch.id = line["id"]
        elif event == "not_ours":
            batch.not_ours.add(line["id"])
            batch.id = ""
        elif event == "over":
            batch.over, batch.answers = True, line["answers"]
        else:
            raise ValueError(f"event {event!r}")

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

    def write(self, event: str, batch: str, **said: Any) -> None:
        """Appends an event; it is on disk once this returns."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"event": event, "batch": batch, "at": at, **said}
        text = json.dumps(line).encode() + b"\n"
        new = not self.path.exists()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            file.truncate(self._size)
            file.seek(self._size)
            file.write(text)
            os.fsync(file.fileno())
        if new:
            sync_folder(self.path.parent)
        self._size += len(text)
        self._take(line)
