"""Reads pairs out of the ledger's answers: a function of the chunks, the settings and the answers."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from ft_assets.records import Chunk, ChunkYield, DroppedPair, QAPair
from ft_assets.stages.qa.attempts import Tries
from ft_assets.stages.qa.filters import Sifted, without_duplicates
from ft_assets.stages.qa.judge import apply_verdicts
from ft_assets.stages.qa.ledger.ledger import Ledger
from ft_assets.stages.qa.plan import Plan
from ft_assets.stages.qa.prompt import Request
from ft_assets.stages.qa.review import Overlay


@dataclass
class Harvest:
    """What the answers give.

    `states` are by request, as `quarantine`, which has those without an answer of use; `asked` has how
    many pairs each was to give, and `judged` on how many each gave a verdict.
    """

    states: dict[str, str] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    judged: dict[str, int] = field(default_factory=dict)
    usd: dict[str, float] = field(default_factory=dict)
    by_hand: list[QAPair] = field(default_factory=list)
    pairs: list[QAPair] = field(default_factory=list)
    dropped: list[DroppedPair] = field(default_factory=list)
    yields: list[ChunkYield] = field(default_factory=list)
    quarantine: dict[str, dict[str, Any]] = field(default_factory=dict)


def harvest(plan: Plan, ledger: Ledger, overlay: Overlay) -> Harvest:
    """The pairs of every chunk that prove themselves, without duplicates, in the chunks' order."""
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
    """Adds what one chunk gives."""
    tries = Tries.of(request, ledger)
    _count(tries, chunk, found)
    found.asked[request.key] = request.pairs
    sifted = tries.sift(chunk)
    found.dropped += sifted.dropped
    judged = _judged(plan, chunk, sifted.kept, ledger, found)
    by_hand, kept, gone = overlay.lay(judged, chunk)
    found.by_hand += by_hand
    found.pairs += kept
    found.dropped += gone
    drafts = len(tries.answer.items)
    row = ChunkYield(chunk.chunk_id, chunk.text_id, tries.state, request.pairs, drafts, 0)
    found.yields.append(row)


def _judged(
    plan: Plan, chunk: Chunk, pairs: list[QAPair], ledger: Ledger, found: Harvest
) -> list[QAPair]:
    """The pairs that the judge lets be; all where there is none."""
    request = plan.judging(chunk, pairs)
    if request is None:
        return pairs
    tries = Tries.of(request, ledger)
    _count(tries, chunk, found)
    sifted = apply_verdicts(pairs, tries.answer, tries.state)
    found.judged[request.key] = len(tries.answer.items)
    found.dropped += sifted.dropped
    return sifted.kept


def _count(tries: Tries, chunk: Chunk, found: Harvest) -> None:
    """Adds a request to the books."""
    key = tries.request.key
    found.states[key] = tries.state
    found.usd |= {answered.key: answered.usd for _, answered in tries.all}
    if tries.state != "answered":
        line = found.quarantine.setdefault(key, _quarantined(tries))
        line["chunk_ids"].append(chunk.chunk_id)


def _quarantined(tries: Tries) -> dict[str, Any]:
    """A request without an answer of use, with what came instead for a person to read."""
    answers = [
        {
            "outcome": answer.outcome,
            "reason": answer.reason,
            "stop_reason": answered.stop_reason,
            "text": answered.text,
        }
        for answer, answered in tries.all
    ]
    return {
        "request": tries.request.key,
        "asked_for": tries.request.recipe.form.name,
        "state": tries.state,
        "pairs": tries.request.pairs,
        "chunk_ids": [],
        "answers": answers,
    }


def _drop_duplicates(found: Harvest) -> None:
    """Leaves one of pairs that are alike; a person's go before the model's."""
    order = {row.chunk_id: place for place, row in enumerate(found.yields)}

    def place(pair: QAPair | DroppedPair) -> int:
        return order[pair.chunk_id]

    sifted: Sifted = without_duplicates(found.by_hand + found.pairs, first=len(found.by_hand))
    found.pairs = sorted(sifted.kept, key=place)
    found.dropped = sorted(found.dropped + sifted.dropped, key=place)
