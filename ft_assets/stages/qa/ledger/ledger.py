"""The ledger of paid work: append-only JSON Lines that outlive every version of the asset.

    <keep>/requests.jsonl     a line for each request sent, and one for its outcome
    <keep>/batches.jsonl      the pending Message Batches: see `batch_log.py`
    <keep>/lock               locked by the one process that may write
    <keep>/reserve            space that is freed if the disk is full, for answers in flight

A line is on disk before its request is sent, and before an answer is used. So a crash leaves a request
without an outcome. It is listed as `unknown`, because it may have been paid for, unless it is in a
batch, whose results can still be collected. An answer in the ledger is never requested again.
"""

import fcntl
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ft_assets.errors import StageError
from ft_assets.files import sync_folder
from ft_assets.stages.job import Report
from ft_assets.stages.qa.answer import SETTLED, FormName, OutcomeName
from ft_assets.stages.qa.ledger.journal import Journal, Line

REQUESTS = "requests.jsonl"
_RESERVE_BYTES = 4 * 2**20
_POLL_SECONDS = 0.5
_LOST = "the process that sent it ended before its answer was on disk"


@dataclass(frozen=True)
class Sent:
    """A request that goes out; it costs at most `usd`.

    A request in a `batch` also records the `form` of its answer, the number of `pairs`, and the `prices`
    of input and output (USD per million tokens), because the settings may differ when it is collected.
    """

    key: str
    recipe: str
    usd: float
    batch: str = ""
    pairs: int = 0
    form: FormName = "pairs"
    prices: tuple[float, float] | None = None


_SENT = Sent.__dataclass_fields__


@dataclass(frozen=True)
class Answered:
    """The outcome of a request; `usage` is empty if there was no answer.

    `wait_until` is the Unix time before which nothing may be sent, if an answer asked for that. A
    request that is `turned_away` was refused for its content.
    """

    key: str
    outcome: OutcomeName
    usd: float = 0.0
    text: str = ""
    stop_reason: str | None = None
    usage: dict[str, int] = field(default_factory=dict)
    request_id: str = ""
    error: str = ""
    wait_until: float = 0.0
    turned_away: bool = False


@dataclass
class Making:
    """What one build of the pairs added to a ledger, over one or more processes."""

    sent: int = 0
    usd: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    turned_away: dict[str, str] = field(default_factory=dict)
    """The keys of requests that were refused for their content, each with the error."""

    @property
    def answers(self) -> int:
        """The number of answers received."""
        return sum(self.outcomes[outcome] for outcome in SETTLED)


class Ledger:
    """The content of a ledger, read-only. `open_ledger` opens one for writing."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / REQUESTS
        self.outcomes: Counter[str] = Counter()
        """The number of requests by outcome; a retried request counts each time."""
        self.sent = 0
        self.usd = 0.0
        """The cost of all answers; an unknown one counts as the most that it can have cost."""
        self.making = Making()
        """What was added since the pairs were last complete."""
        self.wait_until = 0.0
        """The Unix time before which nothing may be sent, according to the answers so far."""
        self._left_out_previously: set[str] = set()
        self._open: dict[int, Sent] = {}
        self._found: dict[str, tuple[OutcomeName, int]] = {}
        self._next = 0
        events = {"sent": self._sent, "outcome": self._outcome, "complete": self._complete}
        self._journal = Journal(self.path, events, "what it answers will be paid for again")

    def _sent(self, line: Line, offset: int) -> None:
        self._open[line["n"]] = _sent_of(line)
        self._next = line["n"] + 1
        self.sent += 1
        self.making.sent += 1

    def _outcome(self, line: Line, offset: int) -> None:
        if self._open.pop(line["n"], None) is None:  # written twice by an interrupted writer
            return
        key, outcome = line["key"], line["outcome"]
        self.outcomes[outcome] += 1
        self.usd += line["usd"]
        self.making.usd += line["usd"]
        self.making.outcomes[outcome] += 1
        self.making.turned_away.pop(key, None)
        if line.get("turned_away"):
            self.making.turned_away[key] = line.get("error", "")
        self.wait_until = max(self.wait_until, line.get("wait_until", 0.0))
        if self.settled(key) is None:
            self._found[key] = (outcome, offset)

    def _complete(self, line: Line, offset: int) -> None:
        self._left_out_previously = set(self.making.turned_away)
        self.making = Making()

    @property
    def under_way(self) -> int:
        """Requests without an outcome: in flight, or lost with their process."""
        return len(self._open)

    @property
    def blocked_reason(self) -> str:
        """Why this build cannot succeed; "" if it can.

        It cannot if all requests are refused for their content, unless these are only requests that were
        left out already when the pairs were last complete.
        """
        refused = self.making.turned_away
        if self.making.answers or refused.keys() <= self._left_out_previously:
            return ""
        return list(refused.values())[-1]

    @property
    def left_out(self) -> dict[str, str]:
        """The requests that this build leaves out, by key, each with the error."""
        return {} if self.blocked_reason else self.making.turned_away

    def require_hope(self) -> None:
        """Raises StageError if every request is refused for its content."""
        if self.blocked_reason:
            raise StageError(
                f"every request is refused: {self.blocked_reason}. Nothing is published. Running again sends "
                f"them once more; all earlier answers are kept in {self.path}"
            )

    @property
    def in_batches(self) -> set[str]:
        """The keys of requests in batches whose results are not in the ledger yet."""
        return {sent.key for sent in self._open.values() if sent.batch}

    def last(self, key: str) -> OutcomeName | None:
        """The outcome of a request, None if it was never sent; of several tries, an answer wins."""
        found = self._found.get(key)
        return found[0] if found else None

    def settled(self, key: str) -> OutcomeName | None:
        """The outcome of a request that has an answer; None if it may be sent."""
        outcome = self.last(key)
        return outcome if outcome in SETTLED else None

    def answer(self, key: str) -> Answered:
        """The outcome of a request that was sent, with its text, read from the file."""
        line = self._journal.read(self._found[key][1])
        names = Answered.__dataclass_fields__
        return Answered(**{name: line[name] for name in names if name in line})


class OpenLedger(Ledger):
    """A ledger open for writing; the caller must hold its lock."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._reserve = folder / "reserve"
        self._journal.open()
        if not self._reserve.is_file() or self._reserve.stat().st_size < _RESERVE_BYTES:
            self._reserve.write_bytes(bytes(_RESERVE_BYTES))
        sync_folder(folder)
        lost = [(n, sent) for n, sent in self._open.items() if not sent.batch]
        self.outcome((n, Answered(sent.key, "unknown", sent.usd, error=_LOST)) for n, sent in lost)

    def send(self, requests: Iterable[Sent]) -> list[int]:
        """Records that requests go out; returns the number of each. After this they may be sent."""
        numbered = list(enumerate(requests, start=self._next))
        self._append("sent", [{"n": n, **_said(request)} for n, request in numbered])
        return [n for n, _ in numbered]

    def outcome(self, outcomes: Iterable[tuple[int, Answered]]) -> None:
        """Records the outcomes of requests, by their numbers."""
        lines = [{"n": n, **_said(item)} for n, item in outcomes if n in self._open]
        self._append("outcome", lines)

    def batches(self) -> set[str]:
        """The batches that have requests without an outcome."""
        return {sent.batch for sent in self._open.values() if sent.batch}

    def open_in(self, batch: str) -> dict[str, tuple[int, Sent]]:
        """The requests of a batch that have no outcome, by key, each with its number."""
        return {sent.key: (n, sent) for n, sent in self._open.items() if sent.batch == batch}

    def close_batch(
        self, batch: str, outcome: Literal["failed", "unknown"], why: str, wait_until: float = 0.0
    ) -> list[tuple[Sent, float]]:
        """Records one outcome for all requests of a batch without one; returns each with its cost."""
        waiting = list(self.open_in(batch).values())
        due = [sent.usd if outcome == "unknown" else 0.0 for _, sent in waiting]
        self.outcome(
            (number, Answered(sent.key, outcome, usd, error=why, wait_until=wait_until))
            for (number, sent), usd in zip(waiting, due, strict=True)
        )
        return [(sent, usd) for (_, sent), usd in zip(waiting, due, strict=True)]

    def require_reserve(self) -> None:
        """Raises StageError if the disk space reserved for answers is used up."""
        if not self.has_reserve:
            raise StageError(
                f"no space left on device: {self.path}. All answers so far are kept: free some space "
                "and run again"
            )

    def complete(self) -> None:
        """Records that the pairs are complete: what is spent from now on belongs to the next build."""
        if self.making.sent:
            self._append("complete", [{}])

    def _append(self, event: str, lines: Sequence[Mapping[str, object]]) -> None:
        """Appends lines in one write; if the disk is full, deletes the reserve to make room."""
        if not lines:
            return
        try:
            self._journal.append(event, *lines)
        except OSError:
            if not self.has_reserve:
                raise
            self._reserve.unlink()
            self._journal.append(event, *lines)

    @property
    def has_reserve(self) -> bool:
        """Whether the reserved disk space is still there; without it nothing more may be sent."""
        return self._reserve.exists()

    def close(self) -> None:
        """Closes the file."""
        self._journal.close()


@contextmanager
def open_ledger(folder: Path, report: Report = lambda line: None) -> Iterator[OpenLedger]:
    """Opens the ledger in `folder` for writing; waits while another process has it open.

    Requests that a dead process left open are recorded as `unknown`. Raises OSError if the disk is
    full, and StageError if a line is damaged or the folder cannot be written.
    """
    with _locked(folder, report):
        try:
            ledger = OpenLedger(folder)
        except PermissionError as error:
            raise _unwritable(error) from error
        try:
            yield ledger
        finally:
            ledger.close()


@contextmanager
def _locked(folder: Path, report: Report) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a")
    except PermissionError as error:
        raise _unwritable(error) from error
    with lock:
        _lock(lock.fileno(), folder, report)
        yield


def _unwritable(error: PermissionError) -> StageError:
    return StageError(
        f"cannot write {error.filename} ({error.strerror}); nothing is sent without it: give the user "
        "that runs this write permission"
    )


def _lock(descriptor: int, folder: Path, report: Report) -> None:
    """Takes the lock; the kernel releases it when its holder ends, even after a crash."""
    said = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not said:
                report(f"another process is writing {folder / REQUESTS}: waiting for it to end")
            said = True
            time.sleep(_POLL_SECONDS)
        else:
            return


def _sent_of(line: Line) -> Sent:
    said = {name: line[name] for name in _SENT if name in line}
    return Sent(**{**said, "prices": tuple(said["prices"]) if "prices" in said else None})


def _said(item: Sent | Answered) -> dict[str, object]:
    return {name: value for name, value in vars(item).items() if value or name == "usd"}
