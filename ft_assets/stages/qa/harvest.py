"""Reads pairs from the ledger; the result depends only on chunks, settings, reviews and answers."""

from collections import Counter
from dataclasses import dataclass, field, replace

from ft_assets.records import Chunk, ChunkYield, DroppedPair, QAPair
from ft_assets.stages.qa.answer import FormName, OutcomeName
from ft_assets.stages.qa.attempts import Attempts
from ft_assets.stages.qa.filters import Sifted, without_duplicates
from ft_assets.stages.qa.judge import apply_verdicts
from ft_assets.stages.qa.ledger.ledger import Ledger
from ft_assets.stages.qa.plan import Plan
from ft_assets.stages.qa.prompt import Request
from ft_assets.stages.qa.review import Overlay


@dataclass(frozen=True)
class UselessAnswer:
    """An unusable answer, and why it is unusable."""

    outcome: OutcomeName
    reason: str
    stop_reason: str | None
    text: str


@dataclass(frozen=True)
class Quarantined:
    """A request without a usable answer, for a person to read; a line of the quarantine file."""

    request: str
    asked_for: FormName
    state: str
    pairs: int
    chunk_ids: list[str] = field(default_factory=list)
    answers: list[UselessAnswer] = field(default_factory=list)


@dataclass
class Harvest:
    """Everything that is read from the answers.

    By request key: `states`; `asked`, the number of pairs requested; `judged`, the number of verdicts
    received; `quarantine`, the requests without a usable answer. By sample key: `usd`.
    """

    states: dict[str, str] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    judged: dict[str, int] = field(default_factory=dict)
    usd: dict[str, float] = field(default_factory=dict)
    by_hand: list[QAPair] = field(default_factory=list)
    pairs: list[QAPair] = field(default_factory=list)
    dropped: list[DroppedPair] = field(default_factory=list)
    yields: list[ChunkYield] = field(default_factory=list)
    quarantine: dict[str, Quarantined] = field(default_factory=dict)


def harvest(plan: Plan, ledger: Ledger, overlay: Overlay) -> Harvest:
    """The proven pairs of every chunk, without duplicates, in the order of the chunks."""
    found = Harvest()
    for chunk, request in plan.requests():
        if request is None:
            found.yields.append(ChunkYield(chunk.chunk_id, chunk.text_id, "skipped", 0, 0, 0))
        else:
            _reap(plan, chunk, request, ledger, overlay, found)
    _drop_duplicates(found)
    kept = Counter(pair.chunk_id for pair in found.pairs)
    found.yields = [replace(row, kept=kept[row.chunk_id]) for row in found.yields]
    return found


def _reap(
    plan: Plan,
    chunk: Chunk,
    request: Request,
    ledger: Ledger,
    overlay: Overlay,
    found: Harvest,
) -> None:
    """Adds the pairs of one chunk."""
    attempts = Attempts.of(request, ledger)
    _count(attempts, chunk, found)
    found.asked[request.key] = request.pairs
    sifted = attempts.sift(chunk)
    found.dropped += sifted.dropped
    judged = _judged(plan, chunk, sifted.kept, ledger, found)
    by_hand, kept, gone = overlay.lay(judged, chunk)
    found.by_hand += by_hand
    found.pairs += kept
    found.dropped += gone
    drafts = len(attempts.answer.items)
    row = ChunkYield(chunk.chunk_id, chunk.text_id, attempts.state, request.pairs, drafts, 0)
    found.yields.append(row)


def _judged(
    plan: Plan, chunk: Chunk, pairs: list[QAPair], ledger: Ledger, found: Harvest
) -> list[QAPair]:
    """The pairs that the judge keeps; all pairs if there is no judge."""
    request = plan.judging(chunk, pairs)
    if request is None:
        return pairs
    attempts = Attempts.of(request, ledger)
    _count(attempts, chunk, found)
    sifted = apply_verdicts(pairs, attempts.answer, attempts.state)
    found.judged[request.key] = len(attempts.answer.items)
    found.dropped += sifted.dropped
    return sifted.kept


def _count(attempts: Attempts, chunk: Chunk, found: Harvest) -> None:
    """Records the state and the cost of a request."""
    key = attempts.request.key
    found.states[key] = attempts.state
    found.usd |= {answered.key: answered.usd for _, answered in attempts.all}
    if attempts.state != "answered":
        quarantined = found.quarantine.setdefault(key, _quarantined(attempts))
        quarantined.chunk_ids.append(chunk.chunk_id)


def _quarantined(attempts: Attempts) -> Quarantined:
    answers = [
        UselessAnswer(answer.outcome, answer.reason, answered.stop_reason, answered.text)
        for answer, answered in attempts.all
    ]
    request = attempts.request
    return Quarantined(
        request.key, request.recipe.form.name, attempts.state, request.pairs, answers=answers
    )


def _drop_duplicates(found: Harvest) -> None:
    """Keeps one of pairs that are alike; a person's pair wins over the model's."""
    order = {row.chunk_id: place for place, row in enumerate(found.yields)}

    def place(pair: QAPair | DroppedPair) -> int:
        return order[pair.chunk_id]

    sifted: Sifted = without_duplicates(found.by_hand + found.pairs, first=len(found.by_hand))
    found.pairs = sorted(sifted.kept, key=place)
    found.dropped = sorted(found.dropped + sifted.dropped, key=place)
