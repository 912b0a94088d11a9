"""Sends requests in Message Batches, at half the price, and collects batches that have ended.

The process may die at any moment: a request is on disk before it is sent, and a later process
collects the results. Nothing here waits for a batch, because that may take a day.
"""

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, count, islice
from typing import TYPE_CHECKING, Literal

from ft_assets.errors import StageError, UserError, WaitingError
from ft_assets.stages.job import Report
from ft_assets.stages.qa.answer import FORMS
from ft_assets.stages.qa.ledger.batch_log import Batch, BatchLog
from ft_assets.stages.qa.ledger.ledger import Answered, OpenLedger, Sent
from ft_assets.stages.qa.money import BATCH_SHARE, Budget, Price, at_most
from ft_assets.stages.qa.prompt import Request
from ft_assets.stages.qa.providers.claude_batches import ClaudeBatches, UnreachableError
from ft_assets.stages.qa.retry import BATCHES, wait_until
from ft_assets.stages.qa.send import Reply, answered_of

if TYPE_CHECKING:
    from anthropic.types.messages.batch_create_params import Request as BatchRequest

MOST_REQUESTS, MOST_BYTES = 100_000, 240 * 10**6
"""The most that goes into one batch; the API's limit is 256 MB, including the JSON around the requests."""
APPEARS = timedelta(minutes=2)
"""A batch that exists is in the service's list by this age."""
LOST_AFTER = timedelta(hours=25)
"""A batch that still returns 404 at this age is lost: no batch lives longer. Before that, the key may
belong to another workspace."""
_CLOCKS_DIFFER = timedelta(minutes=5)
_WRITTEN_AT_ONCE = 200
_FRUITLESS = 3
"""Consecutive batches without a single answer after which the run stops, so that a person looks."""


def close_unsent(ledger: OpenLedger) -> None:
    """Closes the requests of batches that were never sent because their process ended first."""
    known = {batch.name for batch in BatchLog(ledger.path.parent).under_way}
    for name in ledger.batches() - known:
        ledger.close_batch(name, "failed", "the process ended before it was sent")


class BatchSending:
    """Sends and collects the batches of one ledger."""

    def __init__(
        self,
        service: ClaudeBatches,
        ledger: OpenLedger,
        budget: Budget,
        price: Price,
        report: Report,
        model: str,
    ) -> None:
        self._service, self._ledger, self._budget = service, ledger, budget
        self._model = model
        self._price, self._report = price, report
        self._stop: UserError | StageError | None = None
        self._log = BatchLog(ledger.path.parent)
        for batch in self._log.under_way:
            budget.under_way(sum(sent.usd for _, sent in ledger.open_in(batch.name).values()))

    def run(self, missing: Callable[[], Iterable[Request]]) -> None:
        """Sends `missing` requests until none is missing.

        Raises WaitingError while a batch is pending, UserError or StageError if nothing more can be
        sent. In every case the answers received are in the ledger.
        """
        self.collect()
        while self._submit(missing()):
            self.collect()

    def collect(self) -> None:
        """Collects the results of batches that have ended. Raises WaitingError if one is pending."""
        previously = self._log.fruitless
        waiting = self._log.under_way
        waits = [why for batch in waiting if (why := self._collected(batch))]
        if self._stop:
            raise type(self._stop)(
                f"{self._stop}. The answers so far are kept in {self._ledger.path}"
            )
        if waits:
            raise WaitingError(
                f"waiting for {'; '.join(waits)}. Nothing is published yet; the results will be kept. "
                "Run again once it has ended, or let the sensor of ft-assets ui do so"
            )
        if waiting:
            self._ledger.require_hope()
        fruitless = self._log.fruitless
        if fruitless > previously and fruitless % _FRUITLESS == 0:
            raise StageError(
                f"{fruitless} batches in a row came back without a single answer; their errors are in "
                f"{self._ledger.path}. Running again sends the requests once more"
            )

    def _collected(self, batch: Batch) -> str:
        """Collects a batch if it has ended and returns ""; else returns what is pending, in words."""
        age = datetime.now(UTC) - batch.sent
        what = f"batch {batch.id or '(its id is being looked up)'} of {batch.requests:,} requests"
        try:
            if not batch.id and not self._found(batch):
                if age < APPEARS:
                    return what
                self._close(batch, "failed", "its batch was never created")
                return ""
            state = self._service.state(batch.id)
            if state == "ended":
                return "" if self._took(batch) else what
            if state == "gone":
                self._close(batch, "unknown", f"the results of batch {batch.id} are no longer kept")
                return ""
        except UnreachableError as error:
            return f"{what}, whose state cannot be checked now ({error})"
        if state == "not found":
            if age < LOST_AFTER:
                return f"{what}, which this key cannot find (yet)"
            self._close(batch, "unknown", f"batch {batch.id} cannot be found")
            return ""
        return f"{what}, sent {batch.sent:%Y-%m-%d %H:%M} UTC; it ends within a day"

    def _found(self, batch: Batch) -> bool:
        """Looks up the id of a batch whose creation was not answered.

        It is a batch of the same size that is not in the log.
        """
        known = {other.id for other in self._log.batches.values()} | batch.not_ours
        for listed in reversed(self._service.since(batch.sent - _CLOCKS_DIFFER)):
            if listed.requests == batch.requests and listed.id not in known:
                self._log.write("created", batch.name, id=listed.id)
                return True
        return False

    def _took(self, batch: Batch) -> bool:
        """Writes the results to the ledger; False if they belong to somebody else's requests."""
        waiting = self._ledger.open_in(batch.name)
        came = answers = 0
        for lines in _batched(self._service.results(batch.id, self._model)):
            if any(key not in waiting and not self._ledger.last(key) for key, _ in lines):
                self._log.write("not_ours", batch.name, id=batch.id)
                return False
            came += len(lines)
            taken = [(*waiting.pop(key), reply) for key, reply in lines if key in waiting]
            self._write_down(taken)
            answers += sum(self._ledger.settled(key) is not None for key, _ in lines)
        if came < batch.requests:
            raise UnreachableError(f"{came:,} of {batch.requests:,} results came")
        self._report(f"batch {batch.id}: {answers:,} of {batch.requests:,} requests answered")
        self._close(batch, "unknown", "its batch has no result for it", answers)
        return True

    def _write_down(self, taken: list[tuple[int, Sent, Reply]]) -> None:
        """Writes replies to the ledger."""
        found = [(number, self._answered(sent, reply)) for number, sent, reply in taken]
        self._ledger.outcome(found)
        for (_, answered), (_, sent, reply) in zip(found, taken, strict=True):
            self._budget.settle(sent.usd, answered.usd)
            self._stop = self._stop or reply.stop

    def _answered(self, sent: Sent, reply: Reply) -> Answered:
        price = Price(*sent.prices) if sent.prices else self._price
        usd = price.usd(reply.usage) * BATCH_SHARE
        return answered_of(sent.key, FORMS[sent.form], sent.pairs, reply, usd, sent.usd)

    def _close(
        self,
        batch: Batch,
        outcome: Literal["failed", "unknown"],
        why: str,
        answers: int = 0,
        wait_until: float = 0.0,
    ) -> None:
        """Closes a batch; its requests without a result get `outcome`."""
        for sent, usd in self._ledger.close_batch(batch.name, outcome, why, wait_until):
            self._budget.settle(sent.usd, usd)
        self._log.write("over", batch.name, answers=answers)

    def _submit(self, requests: Iterable[Request]) -> bool:
        """Sends as many requests as the caps allow; False if there are none to send."""
        fresh = iter(requests)
        if (first := next(fresh, None)) is None:
            return False
        sent = False
        for part in self._parts(chain([first], fresh)):
            self._send(part)
            sent = True
        if not sent:
            most = at_most(first, self._price) * BATCH_SHARE
            raise self._budget.reached(most, 1 + sum(1 for _ in fresh))
        return True

    def _parts(self, requests: Iterable[Request]) -> "Iterator[list[_Going]]":
        """Splits requests into batches, and reserves the most that each request can cost."""
        part: list[_Going] = []
        size = 0
        for request in requests:
            usd = at_most(request, self._price) * BATCH_SHARE
            if not self._budget.reserve(usd):
                break
            body = self._service.body_of(request, self._price)
            length = len(json.dumps(body))
            if part and (len(part) == MOST_REQUESTS or size + length > MOST_BYTES):
                yield part
                part, size = [], 0
            part.append(_Going(request, usd, body))
            size += length
        if part:
            yield part

    def _send(self, part: "list[_Going]") -> None:
        """Sends one batch. If its creation is not answered, `_found` looks it up later."""
        self._ledger.require_reserve()
        name = secrets.token_hex(8)
        time.sleep(wait_until(self._ledger.wait_until))
        self._ledger.send(going.sent(name, self._price) for going in part)
        self._log.write("sent", name, requests=len(part))
        said = self._create([going.body for going in part])
        if isinstance(said, str):
            self._log.write("created", name, id=said)
            self._report(f"batch {said}: {len(part):,} requests sent")
        elif said.outcome == "failed":
            wait = said.retry_after or 0.0
            until = time.time() + wait if said.again == "limited" else 0.0
            self._close(self._log.batches[name], "failed", said.error, 1, until)
            later = f"in {wait:.0f} s" if wait else "later"
            raise said.stop or StageError(f"no batch can be sent: {said.error}. Run again {later}")

    def _create(self, bodies: "list[BatchRequest]") -> str | Reply:
        """The id of a new batch, or the reply to the last try."""
        for attempt in count(1):
            said = self._service.create(bodies)
            if isinstance(said, str) or not said.again:
                break
            wait = BATCHES.wait(said.failure, attempt, said.retry_after)
            if wait is None:
                break
            self._report(f"the batch could not be sent ({said.error}): retry in {wait:.0f} s")
            time.sleep(wait)
        return said


@dataclass
class _Going:
    """A request on its way into a batch, and the money reserved for it."""

    request: Request
    usd: float
    body: "BatchRequest"

    def sent(self, batch: str, price: Price) -> Sent:
        """Its line in the ledger."""
        recipe = self.request.recipe
        return Sent(
            self.request.key,
            recipe.digest,
            self.usd,
            batch,
            self.request.pairs,
            recipe.form.name,
            (price.input, price.output),
        )


Lines = Iterator[tuple[str, Reply]]


def _batched(lines: Lines) -> Iterator[list[tuple[str, Reply]]]:
    """Groups of results, so that each group costs one disk sync."""
    while some := list(islice(lines, _WRITTEN_AT_ONCE)):
        yield some
