"""Which requests the pairs of a corpus take, which of them have no answer yet, and what those cost."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ft_assets.errors import UserError
from ft_assets.records import Chunk
from ft_assets.stages.chunks import CHUNKS
from ft_assets.stages.job import Job
from ft_assets.stages.qa.answer import RETRIED
from ft_assets.stages.qa.ledger import Ledger
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
"""Pairs that one request asks for at most."""


@dataclass(frozen=True)
class Plan:
    """The requests of one job, in the order of its chunks."""

    job: Job
    recipe: Recipe
    price: Price

    @classmethod
    def of(cls, job: Job) -> "Plan":
        """Raises UserError for a prompt that cannot be rendered, or a model without a price."""
        settings = job.section("qa")
        return cls(job, recipe_of(settings), price_in(job.means, settings["model"]))

    def requests(self) -> Iterator[tuple[Chunk, Request | None]]:
        """Each chunk with its request; None for a chunk without words."""
        for chunk in read_table(self.job.inputs["chunks"] / CHUNKS, Chunk):
            yield chunk, self._request(chunk)

    def _request(self, chunk: Chunk) -> Request | None:
        if not any(character.isalnum() for character in chunk.text):
            return None
        return request_of(self.recipe, chunk, self._pairs(chunk))

    def _pairs(self, chunk: Chunk) -> int:
        by_length: float | None = self.job.settings["qa.pairs_per_1000_tokens"]
        if by_length is None:
            return int(self.job.settings["qa.pairs_per_chunk"])
        wanted = round(by_length * estimate_tokens(chunk.text) / 1000)
        return min(_MOST_PAIRS, max(1, wanted))

    def missing(self, ledger: Ledger) -> Iterator[Request]:
        """The requests without an answer, each once, whatever it is that several chunks share."""
        seen: set[str] = set()
        for _, request in self.requests():
            if request is None or request.key in seen:
                continue
            seen.add(request.key)
            found = ledger.settled(request.key)
            again = request.again()
            if found is None:
                yield request
            elif found in RETRIED and ledger.settled(again.key) is None:
                yield again

    def estimate(self, ledger: Ledger) -> Estimate:
        """What the missing answers will cost, about.

        Raises UserError where a chunk is longer than the model takes at its price.
        """
        return estimate(self._short_enough(self.missing(ledger)), self.price)

    def _short_enough(self, requests: Iterator[Request]) -> Iterator[Request]:
        over, longest = 0, 0
        for request in requests:
            tokens = prompt_tokens(request) + self.recipe.max_tokens
            over += tokens > self.price.longest
            longest = max(longest, tokens)
            yield request
        if over:
            raise UserError(
                f"{over:,} chunks are too long for {self.recipe.model}: about {longest:,} tokens with "
                f"the prompt and the answer, where {self.price.longest:,} is the most. Make "
                "langchain.chunk_size smaller; nothing was sent"
            )


def price_in(means: dict[str, Any], model: str) -> Price:
    """The price of a model, by the settings of a job's means."""
    prices = {
        name: means[f"qa.prices.{name}"]
        for name in ("input", "output")
        if f"qa.prices.{name}" in means
    }
    return price_of(model, prices)
