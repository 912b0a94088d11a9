"""Sends requests, many at a time, and writes each into the ledger before and after.

`Call` is the seam for providers: it sends one request to a model and says what came of it. Which
requests go out, when, how often and within which caps is decided here, the same for all.
"""

import heapq
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from queue import SimpleQueue

from ft_assets.errors import StageError, UserError
from ft_assets.stages.job import Report
from ft_assets.stages.qa.answer import RETRIED, SETTLED, Form, OutcomeName, read_answer
from ft_assets.stages.qa.ledger.ledger import Answered, OpenLedger, Sent
from ft_assets.stages.qa.money import Budget, Price, at_most, dollars
from ft_assets.stages.qa.pace import Limit, Pacer
from ft_assets.stages.qa.prompt import Request
from ft_assets.stages.qa.retry import MESSAGES, Again, Failure, wait_until

_HOPELESS = 3
"""Requests turned away for what they are, while none is answered, before all stop."""
_POLL_SECONDS = 0.25
_DRAIN_SECONDS = 240.0
"""Longer than any call takes."""
_REPORT_SECONDS = 5.0


@dataclass(frozen=True)
class Reply:
    """What came of one request.

    `outcome` is `answered` for whatever the model said: `read_answer` looks at it later. `again` says that
    the same request may do better later; `limited` that all have to wait. `stop` ends the sending.
    """

    outcome: OutcomeName
    text: str = ""
    stop_reason: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)
    request_id: str = ""
    error: str = ""
    again: Again = ""
    retry_after: float | None = None
    limits: Mapping[str, Limit] = field(default_factory=dict)
    stop: UserError | StageError | None = None

    @property
    def failure(self) -> Failure:
        """How a request without an answer failed."""
        if self.again == "limited":
            return "limited"
        return "unknown" if self.outcome == "unknown" else "failed"

    @property
    def turned_away(self) -> bool:
        """Whether the request was refused for what it is, and others may fare better."""
        return self.outcome == "failed" and not self.again and not self.stop


Call = Callable[[Request], Reply]
"""Sends one request to a model. Called from several threads; never sends twice by itself."""


@dataclass(frozen=True)
class _Trip:
    """A request on its way, and how it fared before; `answers` counts those of all until its first."""

    request: Request
    reserved: float = 0.0
    fared: tuple[Failure, ...] = ()
    answers: int = 0


def answered_of(
    key: str, form: Form, pairs: int, reply: Reply, usd: float, at_most: float
) -> Answered:
    """What the ledger is told of a reply, for which `usd` is due, or `at_most` if nobody knows."""
    outcome, error = reply.outcome, reply.error
    if outcome == "answered":
        answer = read_answer(form, reply.stop_reason, reply.text, pairs)
        outcome, error = answer.outcome, answer.reason
    elif outcome == "unknown":
        usd = at_most
    wait = reply.retry_after if reply.again == "limited" else None
    return Answered(
        key,
        outcome,
        usd,
        reply.text,
        reply.stop_reason,
        dict(reply.usage),
        reply.request_id,
        error,
        time.time() + wait if wait else 0.0,
        reply.turned_away,
    )


class Sending:
    """Sends requests until each has its answer, a cap is reached, or nothing more can be answered."""

    def __init__(
        self,
        call: Call,
        ledger: OpenLedger,
        budget: Budget,
        price: Price,
        pacer: Pacer,
        report: Report,
    ) -> None:
        self._call, self._ledger, self._budget = call, ledger, budget
        self._price, self._pacer, self._report = price, pacer, report
        self._out: SimpleQueue[tuple[int, Request] | None] = SimpleQueue()
        self._came: dict[int, Reply] = {}
        self._signal = threading.Event()
        self._in_flight: dict[int, _Trip] = {}
        self._later: list[tuple[float, int, _Trip]] = []
        self._fresh: Iterator[Request] = iter(())
        self._held: _Trip | None = None
        self._threads = self._answers = self._turned_away = 0
        self._done = self._total = self._serial = 0
        self._given_up: list[Reply] = []
        self._told = 0.0

    def run(self, requests: Iterable[Request], total: int) -> None:
        """Sends `requests`, of which there are about `total`.

        Raises UserError or StageError if some have no answer in the end. Whatever happens, what
        was answered is in the ledger, and what is in flight is waited for.
        """
        self._fresh, self._total = iter(requests), total
        self._pacer.pause(wait_until(self._ledger.wait_until))
        try:
            while self._in_flight or self._later or self._peek():
                self._dispatch()
                self._collect()
        finally:
            self._drain()
            for _ in range(self._threads):
                self._out.put(None)
        self._tell(now=True)
        if self._given_up:
            raise self._left_over(f"{len(self._given_up):,} requests have no answer")
        self._ledger.require_hope()

    def _peek(self) -> _Trip | None:
        """What goes out next: a request whose wait is over, or else a fresh one.

        One that waits keeps its place in the window: while nothing is answered, nothing is begun.
        """
        if self._held is None:
            if self._later and self._later[0][0] <= time.monotonic():
                self._held = heapq.heappop(self._later)[2]
            elif len(self._in_flight) + len(self._later) < self._pacer.window:
                request = next(self._fresh, None)
                self._held = _Trip(request, answers=self._answers) if request else None
        return self._held

    def _dispatch(self) -> None:
        """Sends what may go out now."""
        going: list[_Trip] = []
        room = self._pacer.window - len(self._in_flight)
        while len(going) < room and not self._pacer.wait() and (trip := self._peek()):
            usd = at_most(trip.request, self._price)
            if not self._budget.reserve(usd):
                if not self._in_flight and not going:
                    raise self._budget.reached(usd, self._total - self._done)
                break  # what is in flight may cost less than was set aside for it
            going.append(replace(trip, reserved=usd))
            self._held = None
            self._pacer.sent()
        self._go(going)

    def _go(self, trips: list[_Trip]) -> None:
        if trips:
            self._ledger.require_reserve()
        numbers = self._ledger.send(
            Sent(trip.request.key, trip.request.recipe.digest, trip.reserved) for trip in trips
        )
        for trip, number in zip(trips, numbers, strict=True):
            self._in_flight[number] = trip
            if self._threads < len(self._in_flight):
                self._threads += 1
                threading.Thread(target=self._work, daemon=True).start()
            self._out.put((number, trip.request))

    def _work(self) -> None:
        """One thread: sends one request after the other to the model."""
        while item := self._out.get():
            number, request = item
            try:
                reply = self._call(request)
            except Exception as error:  # nothing may get lost here: it may have been paid for
                reply = Reply("unknown", error=f"{type(error).__name__}: {error}", again="later")
            self._came[number] = reply
            self._signal.set()

    def _collect(self) -> None:
        """Waits for something to do, and handles the replies that have come."""
        self._signal.wait(self._idle())
        self._signal.clear()
        self._act(self._write_down())
        self._tell()

    def _idle(self) -> float:
        """Seconds until something else than a reply can need attention."""
        wait = _POLL_SECONDS
        if len(self._in_flight) < self._pacer.window:
            if pace := self._pacer.wait():
                wait = min(wait, pace)
            elif self._held is None and self._later:
                wait = min(wait, self._later[0][0] - time.monotonic())
        return max(wait, 0.0)

    def _write_down(self) -> "list[tuple[_Trip, Reply, Answered]]":
        """Writes down what came. An interrupt on the way loses nothing: it is written again."""
        came = self._came.copy()
        found = {
            number: (self._in_flight[number], reply, self._answered(self._in_flight[number], reply))
            for number, reply in came.items()
        }
        self._ledger.outcome((number, answered) for number, (_, _, answered) in found.items())
        for number, (trip, _, answered) in found.items():
            self._budget.settle(trip.reserved, answered.usd)
            del self._in_flight[number], self._came[number]
        return list(found.values())

    def _act(self, replies: "list[tuple[_Trip, Reply, Answered]]") -> None:
        """Decides what to do next, by what came."""
        for trip, reply, answered in replies:
            self._pacer.heard(reply.limits, reply.usage)
            if answered.outcome in SETTLED:
                self._settle(trip, answered.outcome)
        for trip, reply, answered in replies:
            if reply.stop:
                raise type(reply.stop)(f"{reply.stop}. {self._kept()}")
            if answered.outcome not in SETTLED:
                self._retry(trip, reply)

    def _answered(self, trip: _Trip, reply: Reply) -> Answered:
        request, usd = trip.request, self._price.usd(reply.usage)
        return answered_of(
            request.key, request.recipe.form, request.pairs, reply, usd, trip.reserved
        )

    def _settle(self, trip: _Trip, outcome: OutcomeName) -> None:
        """A request has its answer; if that is useless, one more is asked for, once."""
        self._answers += 1
        again = trip.request.again()
        if outcome in RETRIED and trip.request.sample == 0 and not self._ledger.settled(again.key):
            fresh = _Trip(again, answers=self._answers)
            heapq.heappush(self._later, (0.0, self._count(), fresh))
        else:
            self._done += 1

    def _retry(self, trip: _Trip, reply: Reply) -> None:
        """A request has no answer: it goes out again later, or is given up."""
        if not reply.again:
            self._turn_away()
            return
        fared = (*trip.fared, reply.failure)
        wait = MESSAGES.wait(reply.failure, fared.count(reply.failure), reply.retry_after)
        if wait is None:
            self._given_up.append(reply)
            if self._answers == trip.answers or reply.again == "limited":
                raise self._left_over("nothing is answered any more")
            return
        if reply.again == "limited":
            self._pacer.pause(wait)
        at = time.monotonic() + wait
        heapq.heappush(self._later, (at, self._count(), replace(trip, fared=fared)))

    def _turn_away(self) -> None:
        """A request was refused for what it is: others may fare better, unless none ever did."""
        self._done += 1
        self._turned_away += 1
        if self._turned_away >= _HOPELESS:
            self._ledger.require_hope()

    def _left_over(self, what: str) -> StageError:
        last = self._given_up[-1]
        wait = f", which asks for {last.retry_after:.0f} s" if last.retry_after else ""
        return StageError(
            f"{what}; the last error: {last.error}{wait}. {self._kept()}, and sends only what is left"
        )

    def _kept(self) -> str:
        lost = self._ledger.outcomes["unknown"]
        listed = (
            f" ({lost:,} lost answers, which may have been paid for, are listed)" if lost else ""
        )
        return (
            f"The {self._answers:,} answers that came now are kept in {self._ledger.path}{listed}; "
            "running again pays for none of them twice"
        )

    def _drain(self) -> None:
        """Waits for what is in flight, since it is paid for, and writes it down."""
        if self._in_flight:
            self._report(f"waiting for {len(self._in_flight)} answers that are on their way")
        patience = time.monotonic() + _DRAIN_SECONDS
        while self._in_flight and time.monotonic() < patience:
            self._signal.wait(_POLL_SECONDS)
            self._signal.clear()
            self._answers += sum(
                answered.outcome in SETTLED for _, _, answered in self._write_down()
            )

    def _count(self) -> int:
        self._serial += 1
        return self._serial

    def _tell(self, *, now: bool = False) -> None:
        """Says how far things are, every few seconds."""
        if not now and time.monotonic() - self._told < _REPORT_SECONDS:
            return
        self._told = time.monotonic()
        share = min(1.0, self._done / max(1, self._total))
        bar = "█" * round(20 * share) + "░" * (20 - round(20 * share))
        spent = dollars(self._ledger.making.usd)
        cap = dollars(self._budget.caps["qa.max_usd"])
        self._report(
            f"{bar} {self._done:,} of {self._total:,} done, {spent} of at most {cap}, "
            f"{len(self._in_flight)} in flight"
        )
