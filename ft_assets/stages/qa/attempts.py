"""The results of one request, read from the ledger: its answers, its state and its proven pairs."""

from collections.abc import Iterator
from dataclasses import dataclass

from ft_assets.records import Chunk
from ft_assets.stages.qa.answer import RETRIED, SETTLED, Answer, read_answer
from ft_assets.stages.qa.filters import Sifted, sift
from ft_assets.stages.qa.ledger.ledger import Answered, Ledger
from ft_assets.stages.qa.prompt import Request

STATES = ("answered", "refused", "truncated", "invalid", "failed", "unknown", "pending")
"""The states of requests; each request is in exactly one of them."""

Attempt = tuple[Answer, Answered]


@dataclass(frozen=True)
class Attempts:
    """The results of a request, and of a second sample if the first answer was unusable."""

    request: Request
    all: list[Attempt]

    @classmethod
    def of(cls, request: Request, ledger: Ledger) -> "Attempts":
        """The attempts that a ledger has for a request."""
        return cls(request, list(_attempts(request, ledger)))

    @property
    def state(self) -> str:
        """The state of the request, one of `STATES`."""
        if not self.all:
            return "pending"
        answer, answered = self.all[-1]
        useless = answered.outcome in RETRIED and answer.outcome != "answered"
        return "pending" if useless and len(self.all) == 1 else answer.outcome

    @property
    def answer(self) -> Answer:
        """The answer that counts; without items if the request has no usable answer."""
        return self.all[-1][0] if self.state == "answered" else Answer("failed")

    def sift(self, chunk: Chunk) -> Sifted:
        """Splits the answer's pairs into those that the chunk proves and the others."""
        key = self.all[-1][1].key if self.all else ""
        return sift(self.answer.drafts, chunk, key)


def _attempts(request: Request, ledger: Ledger) -> Iterator[Attempt]:
    for sample in (request, request.again()):
        outcome = ledger.last(sample.key)
        if outcome is None:
            return
        answered = ledger.answer(sample.key)
        answer = Answer(outcome, answered.error)
        if outcome in SETTLED:  # read the text again: the rules may be newer than the ledger's line
            form = request.recipe.form
            answer = read_answer(form, answered.stop_reason, answered.text, request.pairs)
        yield answer, answered
        if answer.outcome == "answered" or outcome not in RETRIED:
            return
