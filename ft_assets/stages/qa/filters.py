"""Which pairs are kept: those that are proven by their chunk, understandable alone, and new."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from ft_assets.records import Chunk, DroppedPair, QAPair
from ft_assets.stages.duplicates import PERMUTATIONS, fold_words, near_earlier, sketch
from ft_assets.stages.qa.answer import Draft

_NEAR = 0.85
"""Pairs at least this similar count as duplicates: the default of `data.near_duplicates`."""
_LEAST_EVIDENCE = 12
"""Characters that a quote needs to prove anything: a shorter one may be in the chunk by chance."""
_PLAIN = str.maketrans({"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "–": "-", "—": "-"})

_THING = (
    r"(?:text|passage|document|excerpt|extract|article|section|paragraph|chapter|context|author)s?"
)
LEANING = re.compile(
    r"\b(?:the|this|that|these|those)\s+(?:given\s+|provided\s+|above\s+|following\s+)?"
    rf"{_THING}\b(?!\s+of\b)|"
    rf"\b(?:according to|based on)\s+(?:the\s+|this\s+)?{_THING}\b|"
    r"\b(?:mentioned|described|stated|listed|given|shown)\s+(?:above|below|here)\b",
    re.IGNORECASE,
)
"""Words that refer to a source which the reader does not have."""


@dataclass(frozen=True)
class Sifted:
    """Pairs, split into kept and dropped ones."""

    kept: list[QAPair]
    dropped: list[DroppedPair]


def plain(text: str) -> str:
    """A text in the form in which quotes are compared: one kind of space, quotation mark and dash."""
    return " ".join(unicodedata.normalize("NFKC", text).translate(_PLAIN).split())


def fault_of(draft: Draft, chunk_plain: str) -> str | None:
    """Why a pair is dropped; None if it is kept. `chunk_plain` is its chunk's text through `plain`."""
    evidence = plain(draft.evidence)
    if evidence not in chunk_plain:
        return "the evidence is not in the chunk"
    if len(evidence) < min(_LEAST_EVIDENCE, len(chunk_plain)):
        return "the evidence is too short to prove anything"
    for name, said in (("question", draft.question), ("answer", draft.answer)):
        if match := LEANING.search(said):
            return f"the {name} refers to its source ({match[0].casefold()!r})"
    return None


def pair_of(draft: Draft, chunk: Chunk, request_id: str) -> QAPair:
    """A pair with its id: a digest of all its other fields except the request."""
    said = (draft.question, draft.answer, draft.evidence, chunk.chunk_id, chunk.text_id)
    pair_id = sha256("\0".join(said).encode()).hexdigest()[:32]
    return QAPair(pair_id, *said, request_id)


def sift(drafts: Iterable[Draft], chunk: Chunk, request_id: str) -> Sifted:
    """Checks the pairs of one chunk, each by itself."""
    chunk_plain = plain(chunk.text)
    found = Sifted([], [])
    for draft in drafts:
        pair = pair_of(draft, chunk, request_id)
        if fault := fault_of(draft, chunk_plain):
            found.dropped.append(dropped_pair(pair, fault))
        else:
            found.kept.append(pair)
    return found


def dropped_pair(
    pair: QAPair, reason: str, kept_id: str | None = None, remark: str | None = None
) -> DroppedPair:
    """A dropped pair with its reason."""
    return DroppedPair(**vars(pair), reason=reason, kept_id=kept_id, remark=remark)


def without_duplicates(pairs: list[QAPair], first: int = 0) -> Sifted:
    """Keeps the earliest of pairs that ask the same question or are near-duplicates.

    The first `first` pairs are always kept: a person wrote them.
    """
    found = Sifted([], [])
    asked: dict[str, QAPair] = {}
    for place, pair in enumerate(pairs):
        earlier = asked.setdefault(fold_words(pair.question), pair)
        if earlier is pair or place < first:
            found.kept.append(pair)
        else:
            found.dropped.append(
                dropped_pair(pair, "it asks the same question as another pair", earlier.pair_id)
            )
    return _without_near(found, first)


def _without_near(sifted: Sifted, first: int) -> Sifted:
    import numpy as np

    signatures = [sketch(f"{pair.question}\n{pair.answer}")[0] for pair in sifted.kept]
    having = [place for place, signature in enumerate(signatures) if signature]
    rows = np.frombuffer(b"".join(signatures), "<u4").reshape(-1, PERMUTATIONS)
    near = {
        having[row]: having[other]
        for row, other in near_earlier(rows, _NEAR).items()
        if having[row] >= first
    }
    gone = [
        dropped_pair(
            sifted.kept[place], "it is a near-duplicate of another pair", sifted.kept[of].pair_id
        )
        for place, of in near.items()
    ]
    kept = [pair for place, pair in enumerate(sifted.kept) if place not in near]
    return Sifted(kept, sifted.dropped + gone)
