"""Holds out sections of documents: runs of chunks, far enough from training that no words are shared.

A corpus of few documents is split this way, so that every document is learned from. Chunks overlap,
and documents repeat themselves. So a chunk that shares words with the other side of the split is left
out of the dataset, and runs are placed where few chunks have to be.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil, inf
from typing import TYPE_CHECKING

from ft_assets.stages.duplicates import word_sequences

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Texts = Callable[[], Iterator[tuple[int, str]]]
"""Reads the texts of all chunks, each with its index."""

_SHORTEST, _LONGEST = 4, 20
"""Chunks in a run. Up to two chunks beside each run are left out, so shorter runs would cost too much;
longer ones would hold out a long document at a single point."""
_ROUNDS = 3
"""How often runs are placed again because their words recur elsewhere."""
_COMMON, _COMMON_SHARE = 5, 0.05
"""Words that recur in more chunks than this are a page's header or a licence: if too little could be held
out otherwise, they may be on both sides."""


@dataclass(frozen=True)
class Chunks:
    """The chunks of all documents, in order.

    `texts` is the document of each, as an index from 0, and `keys` a hash of each document. `weights`
    counts the rows of each chunk, with those of its pairs. `ngrams` are its sketches'.
    """

    texts: "NDArray[np.int64]"
    starts: "NDArray[np.int64]"
    ends: "NDArray[np.int64]"
    weights: "NDArray[np.int64]"
    ngrams: list[bytes]
    keys: list[int]

    def documents(self) -> list[tuple[int, int, int]]:
        """The key of each document, and the first and the end of its chunks."""
        import numpy as np

        first = np.searchsorted(self.texts, np.arange(len(self.keys) + 1)).tolist()
        return list(zip(self.keys, first[:-1], first[1:], strict=True))

    def overlaps_next(self) -> "NDArray[np.bool_]":
        """A mask of the chunks that have characters in common with the next one."""
        import numpy as np

        found = np.zeros(len(self.texts), bool)
        same = self.texts[:-1] == self.texts[1:]
        found[:-1] = same & (self.ends[:-1] > self.starts[1:])
        return found


@dataclass(frozen=True)
class Sections:
    """What is held out, and what is left out because it shares words with the other side: masks of
    chunks. `recurring` is true if words that recur everywhere are on both sides.
    """

    held_out: "NDArray[np.bool_]"
    left_out: "NDArray[np.bool_]"
    recurring: bool = False


def hold_out_sections(chunks: Chunks, fraction: float, seed: int, read: Texts) -> Sections:
    """Holds out about `fraction` of the rows.

    A document's runs depend on the seed and its own content, so another document does not move them
    unless they share words or both are too short for a run of their own.
    """
    sections = _held_out(chunks, fraction, seed, read, inf)
    found = int(chunks.weights[sections.held_out & ~sections.left_out].sum())
    if found >= fraction * int(chunks.weights.sum()) / 2 or not _recurring(chunks, inf).any():
        return sections
    common = max(_COMMON, _COMMON_SHARE * len(chunks.texts))
    return _held_out(chunks, fraction, seed, read, common)


def _held_out(chunks: Chunks, fraction: float, seed: int, read: Texts, common: float) -> Sections:
    """Holds out sections; words in more than `common` chunks may be on both sides."""
    import numpy as np

    far = _recurring(chunks, common)
    for _ in range(_ROUNDS):
        held_out = _Placing(chunks, far, fraction, seed).runs()
        if not held_out.any():
            return Sections(held_out, np.zeros_like(held_out))
        shared = _Shared(chunks, held_out, read, common)
        found = shared.far()
        if not found.any():
            break
        far = np.maximum(far, found)
    return shared.parted()


def _recurring(chunks: Chunks, common: float) -> "NDArray[np.float64]":
    """About how many chunks elsewhere share words with each chunk, by the sequences in the sketches;
    without those that are in more than `common` chunks."""
    import numpy as np

    hashes = np.frombuffer(b"".join(chunks.ngrams), "<u4")
    owner = np.repeat(np.arange(len(chunks.ngrams)), [len(some) // 4 for some in chunks.ngrams])
    found = np.zeros(len(chunks.texts))
    if not len(hashes):
        return found
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    far = _are_far(chunks, owner, inverse, len(counts)) & (counts <= common)
    np.maximum.at(found, owner, np.where(far, counts - 1, 0)[inverse])
    return found


def _are_far(
    chunks: Chunks, owner: "NDArray[np.int64]", sequence: "NDArray[np.int64]", count: int
) -> "NDArray[np.bool_]":
    """A mask of the sequences that occur in chunks without a character in common."""
    import numpy as np

    most = np.iinfo(np.int64).max
    last_start, first_end = np.full(count, -1), np.full(count, most)
    first_text, last_text = np.full(count, most), np.full(count, -1)
    np.maximum.at(last_start, sequence, chunks.starts[owner])
    np.minimum.at(first_end, sequence, chunks.ends[owner])
    np.minimum.at(first_text, sequence, chunks.texts[owner])
    np.maximum.at(last_text, sequence, chunks.texts[owner])
    far: NDArray[np.bool_] = (first_text != last_text) | (last_start >= first_end)
    return far


class _Placing:
    """Places runs, where as few chunks as possible have to be left out."""

    def __init__(
        self, chunks: Chunks, far: "NDArray[np.float64]", fraction: float, seed: int
    ) -> None:
        import numpy as np

        self._chunks, self._fraction, self._seed = chunks, fraction, seed
        self._weight = np.concatenate([[0], np.cumsum(chunks.weights)])
        self._far = np.concatenate([[0.0], np.cumsum(far)])
        self._overlaps = chunks.overlaps_next()
        self._mean = float(self._weight[-1]) / max(1, int((chunks.weights > 0).sum()))
        self._held_out = np.zeros(len(chunks.texts), bool)

    def runs(self) -> "NDArray[np.bool_]":
        """A mask of the chunks that are held out.

        A document that is long enough has its own share. Shorter ones, in an order drawn by their
        hashes, save up until there is enough for a run.
        """
        shortest, half = _SHORTEST * self._mean, self._mean / 2
        short = []
        for key, first, end in sorted(
            self._chunks.documents(), key=lambda each: self._draw(each[0])
        ):
            if self._share(first, end) >= shortest:
                self._spread(key, first, end)
            else:
                short.append((key, first, end))
        shortest = min(shortest, sum(self._share(first, end) for _, first, end in short))
        saved, none_yet = 0.0, []
        for key, first, end in short:
            saved += self._share(first, end)
            taken = self._place(key, first, end, saved) if saved >= max(shortest, half) else 0
            saved -= taken
            if not taken:
                none_yet.append((key, first, end))
        for document in none_yet:
            if saved >= half:
                saved -= self._place(*document, saved)
        return self._held_out

    def _share(self, first: int, end: int) -> float:
        return self._fraction * float(self._weight[end] - self._weight[first]) + 1e-9

    def _draw(self, key: int, offset: int = 0) -> bytes:
        return hashlib.sha256(f"{self._seed}:{key:016x}:{offset}".encode()).digest()

    def _spread(self, key: int, first: int, end: int) -> None:
        """Holds out the share of a long document: a run in each of its parts."""
        wanted = self._share(first, end)
        parts = ceil(wanted / self._mean / _LONGEST)
        for part in range(parts):
            begin, stop = (first + (end - first) * at // parts for at in (part, part + 1))
            self._place(key, begin, stop, wanted / parts, first)

    def _place(
        self, key: int, begin: int, stop: int, wanted: float, first: int | None = None
    ) -> float:
        """Holds out the run in [`begin`, `stop`) that costs least; returns its rows, 0 if none can be.

        `first` is the document's first chunk. At least as much is left as is held out.
        """
        import numpy as np

        longest = max(1, (stop - begin - 1) // 2)
        starts = np.arange(begin, stop)
        ends = np.minimum(self._nearest(starts, wanted), np.minimum(starts + longest, stop))
        lengths, rows = ends - starts, self._weight[ends] - self._weight[starts]
        beside = self._overlaps[starts - 1].astype(int) + self._overlaps[ends - 1]
        cost = beside + self._far[ends] - self._far[starts] + np.abs(rows - wanted) / self._mean
        cost = np.round(cost, 6)
        cost[(stop - begin - lengths - beside < lengths) | (rows == 0)] = np.inf
        if not np.isfinite(cost).any():
            return 0.0
        document = begin if first is None else first
        cheapest = np.flatnonzero(cost == cost.min()).tolist()
        at = min(cheapest, key=lambda place: self._draw(key, int(starts[place]) - document))
        self._held_out[starts[at] : ends[at]] = True
        return float(rows[at])

    def _nearest(self, starts: "NDArray[np.int64]", wanted: float) -> "NDArray[np.int64]":
        """The end of the run from each start whose rows are nearest to `wanted`."""
        import numpy as np

        goal = self._weight[starts] + wanted
        above = np.minimum(np.searchsorted(self._weight, goal), len(self._weight) - 1)
        below = np.maximum(above - 1, starts + 1)
        nearer = goal - self._weight[below] <= self._weight[above] - goal
        return np.where(nearer, below, above)


class _Shared:
    """The word sequences of held-out chunks, and the chunks that contain them, exactly; without those
    that are in more than `common` chunks.
    """

    def __init__(
        self, chunks: Chunks, held_out: "NDArray[np.bool_]", read: Texts, common: float
    ) -> None:
        import numpy as np

        self._chunks, self._in_eval = chunks, held_out
        own = [word_sequences(text) for index, text in read() if held_out[index]]
        known = np.unique(np.concatenate(own))
        owners: list[NDArray[np.int64]] = []
        sequences: list[NDArray[np.int64]] = []
        for index, text in read() if len(known) else ():
            found = word_sequences(text)
            places = np.minimum(np.searchsorted(known, found), len(known) - 1)
            hits = places[known[places] == found]
            sequences.append(hits)
            owners.append(np.full(len(hits), index))
        none = np.zeros(0, np.int64)
        self._owner, self._sequence = (np.concatenate([none, *of]) for of in (owners, sequences))
        self._count = len(known)
        is_common = self._holders(chunks.weights > 0) > common
        rare = ~is_common[self._sequence]
        self._owner, self._sequence = self._owner[rare], self._sequence[rare]
        self._recurring = bool(is_common.any())

    def _holders(self, chunks: "NDArray[np.bool_]") -> "NDArray[np.int64]":
        """In how many of these chunks each sequence is."""
        import numpy as np

        return np.bincount(self._sequence[chunks[self._owner]], minlength=self._count)

    def _having(self, sequences: "NDArray[np.bool_]") -> "NDArray[np.bool_]":
        """A mask of the chunks that have one of these sequences."""
        import numpy as np

        found = np.zeros(len(self._chunks.texts), bool)
        found[self._owner[sequences[self._sequence]]] = True
        return found

    def far(self) -> "NDArray[np.float64]":
        """For each held-out chunk, how many training chunks share words with it that are not beside it."""
        import numpy as np

        has_rows = self._chunks.weights > 0
        in_train = self._holders(~self._in_eval & has_rows)
        far = _are_far(self._chunks, self._owner, self._sequence, self._count)
        found = np.zeros(len(self._chunks.texts))
        np.maximum.at(found, self._owner, np.where(far, in_train, 0)[self._sequence])
        return np.where(self._in_eval, found, 0)

    def parted(self) -> Sections:
        """Leaves out chunks until no words are shared, and every document is learned from."""
        import numpy as np

        held_out = self._in_eval.copy()
        given_up = np.zeros_like(held_out)
        while True:
            left_out = self._left_out(held_out, given_up)
            unlearned = self._unlearned(~held_out & ~left_out)
            if not unlearned.any():
                if not (
                    held_out & ~left_out
                ).any():  # all of it recurs in training: so it is learned
                    held_out = left_out = np.zeros_like(held_out)
                return Sections(held_out, left_out, self._recurring)
            released = held_out & unlearned
            held_out &= ~released
            given_up &= ~released
            if (
                not released.any()
            ):  # nothing of it is held out: its words are in another document's run
                its = self._holders(unlearned) > 0
                given_up |= held_out & self._having(its)

    def _left_out(
        self, held_out: "NDArray[np.bool_]", given_up: "NDArray[np.bool_]"
    ) -> "NDArray[np.bool_]":
        """The chunks to leave out: of those that share a sequence, the fewer, or those in training."""
        import numpy as np

        in_train = self._holders(~held_out & (self._chunks.weights > 0))
        many = in_train > np.maximum(2, self._holders(held_out))
        lost = held_out & (given_up | self._having(many))
        shared = self._holders(held_out & ~lost) > 0
        beside = self._beside(held_out & ~lost)
        return lost | (~held_out & (beside | self._having(shared)))

    def _beside(self, held_out: "NDArray[np.bool_]") -> "NDArray[np.bool_]":
        """The chunks that have characters in common with one of these."""
        import numpy as np

        chunks, index = self._chunks, np.arange(len(held_out))
        before = np.maximum.accumulate(np.where(held_out, index, -1))
        after = np.minimum.accumulate(np.where(held_out, index, len(index))[::-1])[::-1]
        found = np.zeros(len(index), bool)
        for other, is_there in ((before, before >= 0), (after, after < len(index))):
            near = other[is_there]
            found[is_there] |= (
                (chunks.texts[near] == chunks.texts[is_there])
                & (chunks.starts[near] < chunks.ends[is_there])
                & (chunks.ends[near] > chunks.starts[is_there])
            )
        return found

    def _unlearned(self, in_train: "NDArray[np.bool_]") -> "NDArray[np.bool_]":
        """The chunks of documents that have rows, but none in training."""
        import numpy as np

        texts, weights = self._chunks.texts, self._chunks.weights
        rows = np.bincount(texts, weights)
        learned = np.bincount(texts, np.where(in_train, weights, 0))
        unlearned: NDArray[np.bool_] = ((rows > 0) & (learned == 0))[texts]
        return unlearned
