"""Sends requests concurrently, and writes each into the ledger before and after.

`Call` is the interface for providers: it sends one request to a model and returns the reply. This
module decides which requests go out, when, how often and within which caps, for all providers.
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
"""If this many requests are refused for their content and none is answered, sending stops."""
_POLL_SECONDS = 0.25
_DRAIN_SECONDS = 240.0
"""Longer than any call takes, so that no paid answer is abandoned."""
_REPORT_SECONDS = 5.0


@dataclass(frozen=True)
class Reply:
    """The reply to one request.

    `outcome` is `answered` for anything the model said; `read_answer` checks it later. `again` says
    whether the same request may succeed later (`limited`: all requests have to wait). `stop` ends the
    sending.
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
        """Whether the request was refused for its content, so that others may still succeed."""
        return self.outcome == "failed" and not self.again and not self.stop


Call = Callable[[Request], Reply]
"""Sends one request to a model. Called from several threads; never sends twice by itself."""


@dataclass(frozen=True)
class _Trip:
    """A request on its way, with its earlier failures.

    `answers` is the total number of answers when the request was first tried.
    """

    request: Request
    reserved: float = 0.0
    fared: tuple[Failure, ...] = ()
    answers: int = 0


def answered_of(
    key: str, form: Form, pairs: int, reply: Reply, usd: float, at_most: float
) -> Answered:
    """The ledger's line for a reply that cost `usd`, or up to `at_most` if the answer was lost."""
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
    """Sends requests until each has an answer, a cap is reached, or no more answers come."""

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
        """Sends `requests`; `total` is their approximate number.

        Raises UserError or StageError if some end without an answer. In every case it waits for the
        requests in flight, and all answers are in the ledger.
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
        """The next request to send: one whose wait is over, or else a fresh one.

        A waiting request keeps its place in the window. If fresh ones went first, a lost network would
        let the whole corpus be tried once before the first request is given up.
        """
        if self._held is None:
            if self._later and self._later[0][0] <= time.monotonic():
                self._held = heapq.heappop(self._later)[2]
            elif len(self._in_flight) + len(self._later) < self._pacer.window:
                request = next(self._fresh, None)
                self._held = _Trip(request, answers=self._answers) if request else None
        return self._held

    def _dispatch(self) -> None:
        """Sends the requests that may go out now."""
        going: list[_Trip] = []
        room = self._pacer.window - len(self._in_flight)
        while len(going) < room and not self._pacer.wait() and (trip := self._peek()):
            usd = at_most(trip.request, self._price)
            if not self._budget.reserve(usd):
                if not self._in_flight and not going:
                    raise self._budget.reached(usd, self._total - self._done)
                break  # requests in flight may cost less than was reserved for them
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
            except Exception as error:  # the request may have been paid for: never lose it
                reply = Reply("unknown", error=f"{type(error).__name__}: {error}", again="later")
            self._came[number] = reply
            self._signal.set()

    def _collect(self) -> None:
        """Waits for something to do, and handles the replies received."""
        self._signal.wait(self._idle())
        self._signal.clear()
        self._act(self._write_down())
        self._tell()

    def _idle(self) -> float:
        """Seconds until there may be something to do other than handling a reply."""
        wait = _POLL_SECONDS
        if len(self._in_flight) < self._pacer.window:
            if pace := self._pacer.wait():
                wait = min(wait, pace)
            elif self._held is None and self._later:
                wait = min(wait, self._later[0][0] - time.monotonic())
        return max(wait, 0.0)

    def _write_down(self) -> "list[tuple[_Trip, Reply, Answered]]":
        """Writes replies to the ledger. After an interrupt halfway they are written again, so none is
        lost.
        """
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
        """Decides what to do next with each reply."""
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
        """Handles a request with an answer; if it is unusable, requests one second sample."""
        self._answers += 1
        again = trip.request.again()
        if outcome in RETRIED and trip.request.sample == 0 and not self._ledger.settled(again.key):
            fresh = _Trip(again, answers=self._answers)
            heapq.heappush(self._later, (0.0, self._count(), fresh))
        else:
            self._done += 1

    def _retry(self, trip: _Trip, reply: Reply) -> None:
        """Handles a request without an answer: it is retried later, or given up."""
        if not reply.again:
            self._turn_away()
            return
        fared = (*trip.fared, reply.failure)
        wait = MESSAGES.wait(reply.failure, fared.count(reply.failure), reply.retry_after)
        if wait is None:
            self._given_up.append(reply)
            if self._answers == trip.answers or reply.again == "limited":
                raise self._left_over("no more answers come")
            return
        if reply.again == "limited":
            self._pacer.pause(wait)
        at = time.monotonic() + wait
        heapq.heappush(self._later, (at, self._count(), replace(trip, fared=fared)))

    def _turn_away(self) -> None:
        """Counts a request that was refused for its content; stops if no request is ever answered."""
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
            f"The {self._answers:,} new answers are kept in {self._ledger.path}{listed}; running again "
            "does not pay for them twice"
        )

    def _drain(self) -> None:
        """Waits for the requests in flight, because they are paid for, and records their answers."""
        if self._in_flight:
            self._report(f"waiting for {len(self._in_flight)} answers in flight")
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
        """Reports the progress, every few seconds."""
        if not now and time.monotonic() - self._told < _REPORT_SECONDS:
            return
        self._told = time.monotonic()
        share = min(1.0, self._done / max(1, self._total))
        bar = "█" * round(20 * share) + "░" * (20 - round(20 * share))
        spent = dollars(self._ledger.making.usd)
        cap = dollars(self._budget.cap)
        self._report(
            f"{bar} {self._done:,} of {self._total:,} done, {spent} of at most {cap}, "
            f"{len(self._in_flight)} in flight"
        )
