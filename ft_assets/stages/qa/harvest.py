"""Reads pairs out of the ledger's answers: a function of the chunks, the settings and the answers."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ft_assets.records import Chunk, ChunkYield, DroppedPair, QAPair
from ft_assets.stages.qa.answer import RETRIED, SETTLED, Draft, Judged, judge
from ft_assets.stages.qa.ledger import Answered, Ledger
from ft_assets.stages.qa.plan import Plan
from ft_assets.stages.qa.prompt import Request
from ft_assets.stages.qa.quality import Sifted, sift, without_duplicates
from ft_assets.stages.qa.review import Overlay

STATES = ("answered", "refused", "truncated", "invalid", "failed", "unknown", "pending")
"""What a request can be in; each is in just one."""

Try = tuple[Judged, Answered]


@dataclass
class Harvest:
    """What the answers give. `states` and `asked` are by request, `quarantine` is those without pairs."""

    states: dict[str, str] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
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
            _reap(chunk, request, ledger, overlay, found)
    _drop_duplicates(found)
    kept = Counter(pair.chunk_id for pair in found.pairs)
    found.yields = [replace(row, kept=kept[row.chunk_id]) for row in found.yields]
    return found


def _reap(chunk: Chunk, request: Request, ledger: Ledger, overlay: Overlay, found: Harvest) -> None:
    """Adds what one chunk gives."""
    tries = list(tries_of(request, ledger))
    state = state_of(tries)
    key, drafts = request.key, list[Draft]()
    if state == "answered":
        key, drafts = tries[-1][1].key, tries[-1][0].drafts
    else:
        line = found.quarantine.setdefault(request.key, _quarantined(request, state, tries))
        line["chunk_ids"].append(chunk.chunk_id)
    found.states[request.key] = state
    found.asked[request.key] = request.pairs
    found.usd |= {answered.key: answered.usd for _, answered in tries}
    sifted = sift(drafts, chunk, key)
    by_hand, kept, gone = overlay.lay(sifted.kept, chunk)
    found.by_hand += by_hand
    found.pairs += kept
    found.dropped += sifted.dropped + gone
    row = ChunkYield(chunk.chunk_id, chunk.text_id, state, request.pairs, len(drafts), 0)
    found.yields.append(row)


def tries_of(request: Request, ledger: Ledger) -> Iterator[Try]:
    """What came of a request, and of the second sample where the first was of no use."""
    for sample in (request, request.again()):
        outcome = ledger.last(sample.key)
        if outcome is None:
            return
        answered = ledger.answer(sample.key)
        judged = Judged(outcome, answered.error)
        if outcome in SETTLED:  # the text decides, as it is read now
            judged = judge(answered.stop_reason, answered.text, request.pairs)
        yield judged, answered
        if judged.outcome == "answered" or outcome not in RETRIED:
            return


def state_of(tries: list[Try]) -> str:
    """The state of a request, one of `STATES`."""
    if not tries:
        return "pending"
    judged, answered = tries[-1]
    one_more = len(tries) == 1 and answered.outcome in RETRIED and judged.outcome != "answered"
    return "pending" if one_more else judged.outcome


def _quarantined(request: Request, state: str, tries: list[Try]) -> dict[str, Any]:
    """A request that gave no pairs, with its answers for a person to read."""
    answers = [
        {
            "outcome": judged.outcome,
            "reason": judged.reason,
            "stop_reason": answered.stop_reason,
            "text": answered.text,
        }
        for judged, answered in tries
    ]
    return {
        "request": request.key,
        "state": state,
        "pairs": request.pairs,
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
