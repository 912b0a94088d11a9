"""Decides which origins are in the dataset, and on which side: duplicates, leaks, and the split.

The unit of the split is the document for text and for pairs generated from it; if there are few
documents, it is a section of one (`sections.py`). For instruction records it is the answer, so that two
wordings of one question are never on both sides. If texts are near-duplicates of each other, they are
one unit.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ft_assets.config import DataConfig
from ft_assets.stages.dataset.origins import Origins
from ft_assets.stages.dataset.sections import Chunks, Sections, hold_out_sections
from ft_assets.stages.duplicates import (
    LEAK_SHARE,
    Passages,
    equal_to_earlier,
    hash_group,
    near_earlier,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REASONS = (
    "",
    "it asks one of the questions in questions.jsonl",
    "it equals another",
    "it is a near-duplicate of another",
    "its words stand in training rows",
    "it shares words with the other side of the split",
)
"""The reasons for dropping an origin, by code; 0 means kept."""
ASKS, EQUAL, NEAR, LEAKED, BORDER = range(1, len(REASONS))

_SAME_DOCUMENT = 0.5
"""Two texts are one unit of the split if at least this share of the smaller one's origins are duplicates
of the other's. Any shared passage must not join them: a licence at the end of each file would make all
of them one unit, and nothing could be held out."""


FEW_DOCUMENTS = 20
"""With fewer documents, sections of them are held out, not whole ones."""
_MANY = 200
"""From so many groups on, each is drawn by itself: the share then comes out right without counting rows,
and a new group moves no other."""


_FEW_RECORDS = 20
"""An answer that more conversations have is a stock phrase; it must not make one unit of all of them."""


def split_groups(sizes: Mapping[str, int], eval_fraction: float, seed: int) -> set[str]:
    """The groups held out for evaluation, at least one of several; `sizes` counts the rows of each.

    Each group is drawn by its own hash, and those with the lowest draws are held out. So adding a group
    moves few of the others. A corpus of one group holds nothing out.
    """

    def draw(group: str) -> float:
        return int.from_bytes(hashlib.sha256(f"{seed}:{group}".encode()).digest()[:8]) / 2**64

    if not eval_fraction or len(sizes) < 2:
        return set()
    if len(sizes) >= _MANY:
        held_out = {group for group in sizes if draw(group) < eval_fraction}
    else:
        held_out, wanted = set(), eval_fraction * sum(sizes.values())
        for group in sorted(sizes, key=draw):
            if sizes[group] <= 2 * wanted + 1e-9:  # it brings the share nearer to what is wanted
                held_out.add(group)
                wanted -= sizes[group]
    if held_out == set(sizes):
        return held_out - {max(sizes, key=draw)}
    return held_out or {min(sizes, key=lambda group: (sizes[group], draw(group)))}


@dataclass(frozen=True)
class Decisions:
    """The decision on each origin, by place.

    `reason` is a code of `REASONS`; `kept_as` is the place of the origin that it duplicates, or -1.
    `leaked` is the number of eval origins that share passages with training rows, out of `judged`.
    `recurring` is true if words that recur everywhere are on both sides.
    """

    reason: "NDArray[np.int8]"
    kept_as: "NDArray[np.int64]"
    held_out: "NDArray[np.bool_]"
    leaked: int
    judged: int
    recurring: bool


ReadChunks = Callable[[], Iterator[tuple[int, str]]]
"""Reads the text of each chunk with its place."""


def decide(
    origins: Origins, settings: DataConfig, questions: set[int], read: ReadChunks
) -> Decisions:
    """Decides on each origin by the settings under `data`.

    `questions` are the hashes of the closed-book questions' words.
    """
    import numpy as np

    reason = np.where(origins.asking(questions), ASKS, 0).astype(np.int8)
    kept_as = np.full(len(origins), -1, np.int64)
    _drop_equal(origins, reason, kept_as)
    if settings.near_duplicates < 1:
        _drop_near(origins, settings.near_duplicates, reason, kept_as)
    units, kept, recurring = _units(origins, kept_as), reason == 0, False
    documents = np.unique(units[kept & ~origins.are("record")])
    if _by_sections(settings, len(documents)):
        held_out = _drawn(units, kept & origins.are("record"), settings, whole=False)
        recurring = _part_sections(origins, settings, read, reason, held_out)
    else:  # a record that equals a pair goes with the pair's document
        with_documents = np.isin(units, documents)
        held_out = _drawn(units, kept & ~with_documents, settings, whole=False)
        held_out |= _drawn(units, kept & with_documents, settings, whole=True)
    judged = int((held_out & (reason == 0)).sum())
    leaked = _part_leaks(origins, units, settings.eval_overlap, reason, held_out)
    return Decisions(reason, kept_as, held_out, leaked, judged, recurring)


def _by_sections(settings: DataConfig, documents: int) -> bool:
    """Whether sections of documents are held out, not whole ones."""
    if settings.eval_unit is None:
        return documents < FEW_DOCUMENTS
    return settings.eval_unit == "section"


def _drawn(
    units: "NDArray[np.uint64]", kept: "NDArray[np.bool_]", settings: DataConfig, *, whole: bool
) -> "NDArray[np.bool_]":
    """A mask of the origins in the units that are held out of the `kept` ones.

    `whole` documents are held out on request, so one is, however few there are.
    """
    import numpy as np

    found, counts = np.unique(units[kept], return_counts=True)
    if not whole and settings.eval_fraction * counts.sum() < 0.5:
        return np.zeros(len(units), bool)
    sizes = {
        f"{unit:016x}": size for unit, size in zip(found.tolist(), counts.tolist(), strict=True)
    }
    drawn = split_groups(sizes, settings.eval_fraction, settings.seed)
    return np.isin(units, np.array([int(unit, 16) for unit in drawn], np.uint64)) & kept


def _part_sections(
    origins: Origins,
    settings: DataConfig,
    read: ReadChunks,
    reason: "NDArray[np.int8]",
    held_out: "NDArray[np.bool_]",
) -> bool:
    """Holds out sections of documents, with the pairs made from them, and leaves out what shares words
    with the other side; returns whether words that recur everywhere are on both."""
    import numpy as np

    places = np.flatnonzero(origins.are("text"))
    if not settings.eval_fraction or not len(places):
        return False
    chunk_of = _chunk_of(origins, places)
    counted = (reason == 0) & (chunk_of >= 0)
    if not counted.any():
        return False
    chunks = _chunks(origins, places, np.bincount(chunk_of[counted], minlength=len(places)))
    index = {place: at for at, place in enumerate(places.tolist())}

    def texts() -> Iterator[tuple[int, str]]:
        return ((index[place], text) for place, text in read())

    found: Sections = hold_out_sections(chunks, settings.eval_fraction, settings.seed, texts)
    held_out |= counted & found.held_out[chunk_of]
    reason[counted & found.left_out[chunk_of]] = BORDER
    return found.recurring


def _chunk_of(origins: Origins, places: "NDArray[np.int64]") -> "NDArray[np.int64]":
    """For each origin the index in `places` of its chunk; -1 for records."""
    import numpy as np

    groups = origins.array("split_group", "uint64")
    order = np.argsort(groups[places], kind="stable")
    at = np.searchsorted(groups[places], groups, sorter=order)
    found = order[np.minimum(at, len(places) - 1)]
    is_it = (groups[places[found]] == groups) & ~origins.are("record")
    return np.where(is_it, found, -1)


def _chunks(origins: Origins, places: "NDArray[np.int64]", weights: "NDArray[np.int64]") -> Chunks:
    import numpy as np

    texts, of_text = np.unique(origins.texts()[places], return_inverse=True)
    starts, ends = (origins.array(name, "int64")[places] for name in ("start", "end"))
    ngrams = origins.ngrams()
    return Chunks(
        of_text,
        starts,
        ends,
        weights,
        [ngrams[place] for place in places.tolist()],
        [hash_group(origins.text_ids[text]) for text in texts.tolist()],
    )


def _drop_equal(origins: Origins, reason: "NDArray[np.int8]", kept_as: "NDArray[np.int64]") -> None:
    import numpy as np

    places = np.flatnonzero(reason == 0)
    first = equal_to_earlier(origins.array("exact", "int64")[places])
    again = first >= 0
    reason[places[again]] = EQUAL
    kept_as[places[again]] = places[first[again]]


def _drop_near(
    origins: Origins,
    similarity: float,
    reason: "NDArray[np.int8]",
    kept_as: "NDArray[np.int64]",
) -> None:
    import numpy as np

    are_text = origins.are("text")
    for kind in (are_text, ~are_text):
        places, signatures = origins.signatures(np.flatnonzero((reason == 0) & kind))
        for row, other in near_earlier(signatures, similarity).items():
            reason[places[row]] = NEAR
            kept_as[places[row]] = places[other]
    # If an origin was dropped as a near-duplicate, its exact copies point to what it duplicates.
    named = np.flatnonzero(kept_as >= 0)
    dropped = kept_as[kept_as[named]] >= 0
    kept_as[named[dropped]] = kept_as[kept_as[named[dropped]]]


def _units(origins: Origins, kept_as: "NDArray[np.int64]") -> "NDArray[np.uint64]":
    """The split unit of each origin: its document or answer, or the smallest of those joined with it."""
    import numpy as np

    texts, are_text = origins.texts(), origins.are("text")
    documents = np.array([hash_group(text_id) for text_id in origins.text_ids], np.uint64)
    answers = origins.array("split_group", "uint64")
    groups = np.where(origins.are("record"), answers, documents[texts])
    parent: dict[int, int] = {}

    def root(group: int) -> int:
        while (above := parent.get(group, group)) != group:
            parent[group] = group = parent.get(above, above)
        return group

    def join(one: int, other: int) -> None:
        low, high = sorted((root(one), root(other)))
        parent[high] = low

    sizes = np.bincount(texts[are_text], minlength=int(texts.max(initial=-1)) + 1)
    shared: Counter[tuple[int, int]] = Counter()
    for place in np.flatnonzero(kept_as >= 0).tolist():
        other = int(kept_as[place])
        if are_text[place]:
            shared[int(texts[place]), int(texts[other])] += 1
        else:
            join(int(groups[place]), int(groups[other]))
    for place, other in origins.sharing_answers(_FEW_RECORDS):
        join(int(groups[place]), int(groups[other]))
    group_of_text = dict(zip(texts[are_text].tolist(), groups[are_text].tolist(), strict=True))
    for (one, other), count in shared.items():
        if one != other and count >= _SAME_DOCUMENT * min(sizes[one], sizes[other]):
            join(group_of_text[one], group_of_text[other])
    unique, inverse = np.unique(groups, return_inverse=True)
    return np.array([root(group) for group in unique.tolist()], np.uint64)[inverse]


def _part_leaks(
    origins: Origins,
    units: "NDArray[np.uint64]",
    policy: str,
    reason: "NDArray[np.int8]",
    held_out: "NDArray[np.bool_]",
) -> int:
    """Drops or moves the eval origins that share passages with training rows; returns their number.

    A unit is moved whole, because its parts overlap. Moving repeats until nothing leaks, because a
    moved unit may share passages with the remaining eval rows.
    """
    import numpy as np

    if not held_out.any():
        return 0
    passages, found = Passages(origins.ngrams()), 0
    while True:
        kept = reason == 0
        leaked = passages.shares(kept & held_out, kept & ~held_out) >= LEAK_SHARE
        found += int(leaked.sum())
        if policy == "drop":
            reason[leaked] = LEAKED
        if policy != "move" or not leaked.any():
            return found
        held_out &= ~np.isin(units, units[leaked])
