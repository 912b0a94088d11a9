"""The requests that the pairs of a corpus need, those still without an answer, and their cost."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from ft_assets.config import QAConfig
from ft_assets.errors import UserError
from ft_assets.records import CHUNKS, Chunk, QAPair
from ft_assets.stages.job import Job
from ft_assets.stages.qa.answer import RETRIED, Draft
from ft_assets.stages.qa.attempts import Attempts
from ft_assets.stages.qa.judge import judge_recipe, judge_request
from ft_assets.stages.qa.ledger.ledger import Ledger
from ft_assets.stages.qa.money import (
    Estimate,
    Price,
    estimate,
    estimate_tokens,
    price_of,
    prompt_tokens,
)
from ft_assets.stages.qa.prompt import Recipe, Request, recipe_of, request_of
from ft_assets.tables import read_table

_MOST_PAIRS = 20
"""The most pairs that one request asks for."""
TYPICAL = Draft("q" * 90, "a" * 180, "e" * 120)
"""A pair of typical length, to estimate the cost of the judge's requests."""


@dataclass(frozen=True)
class Plan:
    """The requests of one job, in the order of its chunks; `judge` is None without a judge."""

    job: Job
    qa: QAConfig
    recipe: Recipe
    judge: Recipe | None
    price: Price

    @classmethod
    def of(cls, job: Job) -> "Plan":
        """The plan of a job. Raises UserError for a bad prompt, or a model without a price."""
        qa = job.section(QAConfig)
        writer = recipe_of(qa, job.text("qa.prompt.text") or "")
        judge = judge_recipe(qa, job.text("qa.judge.text"))
        return cls(job, qa, writer, judge, price_of(qa.model, qa.prices))

    def requests(self) -> Iterator[tuple[Chunk, Request | None]]:
        """Each chunk with its request for pairs; None instead of a request for a chunk without words."""
        for chunk in read_table(self.job.inputs["chunks"] / CHUNKS, Chunk):
            yield chunk, self._request(chunk)

    def _request(self, chunk: Chunk) -> Request | None:
        if not any(character.isalnum() for character in chunk.text):
            return None
        return request_of(self.recipe, chunk, pairs_of(chunk.text, self.qa))

    def judging(self, chunk: Chunk, pairs: list[QAPair]) -> Request | None:
        """The request for verdicts on proven pairs of a chunk; None if there is nothing to judge."""
        return judge_request(self.judge, chunk, pairs) if self.judge and pairs else None

    def missing(self, ledger: Ledger) -> Iterator[Request]:
        """All requests that can go out now: those for pairs, then those for verdicts."""
        return chain(self.unwritten(ledger), self.unjudged(ledger))

    def unwritten(self, ledger: Ledger) -> Iterator[Request]:
        """The requests for pairs without an answer, each once, even if chunks have the same text."""
        return unanswered((request for _, request in self.requests() if request), ledger)

    def unjudged(self, ledger: Ledger) -> Iterator[Request]:
        """The requests without an answer for verdicts on the pairs that have been written."""
        return unanswered(self._to_judge(ledger), ledger) if self.judge else iter(())

    def _to_judge(self, ledger: Ledger) -> Iterator[Request]:
        for chunk, request in self.requests():
            pairs = Attempts.of(request, ledger).sift(chunk).kept if request else []
            if verdicts := self.judging(chunk, pairs):
                yield verdicts

    def estimate(self, ledger: Ledger) -> Estimate:
        """The approximate cost of the missing answers; with a judge, an upper estimate.

        Raises UserError if a chunk is longer than the model accepts at its price.
        """
        missing = chain(self.missing(ledger), self._judged_later(ledger))
        return estimate(self._short_enough(missing), self.price)

    def _judged_later(self, ledger: Ledger) -> Iterator[Request]:
        """Placeholder requests for verdicts on pairs that are not written yet, for the estimate."""
        seen: set[str] = set()
        if self.judge is None:
            return
        for chunk, request in self.requests():
            if request and request.key not in seen:
                seen.add(request.key)
                if Attempts.of(request, ledger).state in ("pending", "failed", "unknown"):
                    yield judge_request(self.judge, chunk, [TYPICAL] * request.pairs)

    def _short_enough(self, requests: Iterator[Request]) -> Iterator[Request]:
        over, longest = 0, 0
        for request in requests:
            tokens = prompt_tokens(request) + request.recipe.max_tokens
            over += tokens > self.price.longest
            longest = max(longest, tokens)
            yield request
        if over:
            raise UserError(
                f"{over:,} chunks are too long for {self.recipe.model}: about {longest:,} tokens with "
                f"the prompt and the answer; at most {self.price.longest:,} are possible. Nothing was "
                "sent: reduce langchain.chunk_size"
            )


def pairs_of(text: str, qa: QAConfig) -> int:
    """The number of pairs to request for a text."""
    if qa.pairs_per_1000_tokens is None:
        return qa.pairs_per_chunk
    pairs = round(qa.pairs_per_1000_tokens * estimate_tokens(text) / 1000)
    return min(_MOST_PAIRS, max(1, pairs))


def unanswered(requests: Iterable[Request], ledger: Ledger) -> Iterator[Request]:
    """Those of `requests` without an answer that are neither pending nor left out, each once.

    If the first answer to one was unusable, its second sample.
    """
    seen = ledger.in_batches | ledger.left_out.keys()
    for request in requests:
        if request.key in seen:
            continue
        seen.add(request.key)
        found = ledger.settled(request.key)
        again = request.again()
        if found is None:
            yield request
        elif found in RETRIED and ledger.settled(again.key) is None and again.key not in seen:
            yield again
