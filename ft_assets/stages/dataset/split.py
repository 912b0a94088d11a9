"""Decides which origins are in the dataset, and on which side: duplicates, leaks, and the split.

The unit of the split is the document for text and for pairs generated from it, and the answer for
instruction records, so that two wordings of one question are never on both sides. If texts are
near-duplicates of each other, they are one unit.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ft_assets.config import DataConfig
from ft_assets.stages.dataset.origins import Origins
from ft_assets.stages.duplicates import LEAK_SHARE, Passages, equal_to_earlier, near_earlier

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REASONS = (
    "",
    "it asks one of the questions in questions.jsonl",
    "it equals another",
    "it is a near-duplicate of another",
    "its words stand in training rows",
)
"""The reasons for dropping an origin, by code; 0 means kept."""
ASKS, EQUAL, NEAR, LEAKED = range(1, len(REASONS))

_SAME_DOCUMENT = 0.5
"""Two texts are one unit of the split if at least this share of the smaller one's origins are duplicates
of the other's. Any shared passage must not join them: a licence at the end of each file would make all
of them one unit, and nothing could be held out."""


def split_groups(groups: set[str], eval_fraction: float, seed: int) -> set[str]:
    """The groups held out for evaluation.

    Each group is drawn by its own hash, so adding one does not move the others. If the draw leaves one
    side empty, the group whose draw was nearest goes there. A corpus of one group holds nothing out.
    """

    def draw(group: str) -> float:
        return int.from_bytes(hashlib.sha256(f"{seed}:{group}".encode()).digest()[:8]) / 2**64

    if not eval_fraction or len(groups) < 2:
        return set()
    held_out = {group for group in groups if draw(group) < eval_fraction}
    if held_out == groups:
        return groups - {max(groups, key=draw)}
    return held_out or {min(groups, key=draw)}


@dataclass(frozen=True)
class Decisions:
    """The decision on each origin, by place.

    `reason` is a code of `REASONS`; `kept_as` is the place of the origin that it duplicates, or -1.
    `leaked` is the number of eval origins that share passages with training rows, out of `judged`.
    """

    reason: "NDArray[np.int8]"
    kept_as: "NDArray[np.int64]"
    held_out: "NDArray[np.bool_]"
    leaked: int
    judged: int


def decide(origins: Origins, settings: DataConfig, questions: set[int]) -> Decisions:
    """Decides on each origin by the settings under `data`.

    `questions` are the hashes of the closed-book questions' words.
    """
    import numpy as np

    reason = np.where(origins.asking(questions), ASKS, 0).astype(np.int8)
    kept_as = np.full(len(origins), -1, np.int64)
    _drop_equal(origins, reason, kept_as)
    if settings.near_duplicates < 1:
        _drop_near(origins, settings.near_duplicates, reason, kept_as)
    units = _units(origins, kept_as)
    kept_units = {f"{unit:016x}" for unit in set(units[reason == 0].tolist())}
    drawn = split_groups(kept_units, settings.eval_fraction, settings.seed)
    held_out = np.isin(units, np.array([int(unit, 16) for unit in drawn], np.uint64))
    judged = int((held_out & (reason == 0)).sum())
    leaked = _part_leaks(origins, units, settings.eval_overlap, reason, held_out)
    return Decisions(reason, kept_as, held_out, leaked, judged)


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

    are_text = origins.are_text()
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
    """The split unit of each origin: its group, or the smallest of the groups joined with it."""
    import numpy as np

    groups = origins.array("split_group", "uint64")
    texts, are_text = origins.texts(), origins.are_text()
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
