"""Duplicates and leaks: sketches of texts, and their comparison.

Near-duplicates are found by MinHash (Broder 1997) over sequences of `_SHINGLE` words, with locality
sensitive hashing to find candidates. Overlap of eval and train is measured on sequences of `_NGRAM`
words. Of these, the ones with a hash divisible by `_SCALE` are kept: the same ones in every text, so
that the share of one text's sequences in another is estimated without bias (FracMinHash, Irber 2022).
All hashes are the same in every process and on every machine.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SHINGLE, _NGRAM = 5, 8
PERMUTATIONS, _BANDS = 64, 16
_SCALE = 4
_MIN_WORDS = 40
"""Texts with fewer words have no near-duplicates: wordings of one question with one answer should stay."""
_MIN_NGRAMS = 4
"""With fewer kept sequences, overlap is not judged: the estimate would be noise."""
LEAK_SHARE = 0.5
"""An eval row is leaked if at least this share of its word sequences is in training rows."""
_CANDIDATES = 64
"""The most kept texts of one bucket that a text is compared with, so that cost is not quadratic."""

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
)
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
"""A word; in scripts without spaces between words, a character."""
_RUN = re.compile(r"\w+")
"""A word; in scripts without spaces between words, a run of them."""


def fold(text: str) -> str:
    """`text` with case and white space folded."""
    return " ".join(text.casefold().split())


def fold_words(text: str) -> str:
    """The words of `text`, with case folded and without punctuation, so that a missing "?" is ignored."""
    return " ".join(_WORD.findall(text.casefold()))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def hash_text(text: str) -> int:
    """A hash of the folded text, a signed 64-bit integer."""
    return int.from_bytes(_digest(fold(text)), "little", signed=True)


def hash_group(text: str) -> int:
    """The split group of rows that share `text` (a text id, or a record's answer); 64 bits."""
    return int.from_bytes(_digest(fold(text)), "little")


@lru_cache(maxsize=1 << 18)
def _hash_word(word: str) -> int:
    return int.from_bytes(_digest(word), "little")


def _mixed(values: "NDArray[np.uint64]") -> "NDArray[np.uint64]":
    """Spreads each value over all 64 bits (the finaliser of SplitMix64)."""
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _combined(columns: "Iterable[NDArray[np.uint64]]") -> "NDArray[np.uint64]":
    """A hash of the values at the same index of each column."""
    import numpy as np

    hashes = np.uint64(0)
    for column in columns:
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + column  # type: ignore[assignment]
    return _mixed(hashes)  # type: ignore[arg-type]


def _sequences(words: "NDArray[np.uint64]", length: int) -> "NDArray[np.uint64]":
    """A hash of each sequence of `length` consecutive words."""
    count = max(0, len(words) - length + 1)
    return _combined(words[place : place + count] for place in range(length))


@lru_cache(maxsize=1)
def _permutations() -> "tuple[NDArray[np.uint64], NDArray[np.uint64]]":
    import numpy as np

    seeds = _mixed(
        np.arange(1, 2 * PERMUTATIONS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    )
    return seeds[:PERMUTATIONS] | np.uint64(1), seeds[PERMUTATIONS:]


def sketch(text: str) -> tuple[bytes, bytes]:
    """The MinHash signature of a text and its kept word sequences, as little-endian uint32.

    The signature is empty for a text of fewer than `_MIN_WORDS` words.
    """
    import numpy as np

    words = np.array([_hash_word(word) for word in _WORD.findall(text.casefold())], np.uint64)
    signature = b""
    if len(words) >= _MIN_WORDS:
        times, plus = _permutations()
        hashed = _sequences(words, _SHINGLE)[:, None] * times + plus
        signature = (hashed.min(axis=0) >> np.uint64(32)).astype("<u4").tobytes()
    ngrams = _sequences(words, _NGRAM)
    kept = np.sort(ngrams[ngrams % np.uint64(_SCALE) == 0] >> np.uint64(32))
    again = np.flatnonzero(kept[1:] == kept[:-1])
    return signature, np.delete(kept, again).astype("<u4").tobytes()


def word_sequences(text: str) -> "NDArray[np.uint64]":
    """A hash of every sequence of `_NGRAM` words in a text, sorted.

    Words are counted both with and without punctuation: `a | b` is three words, or two.
    """
    import numpy as np

    folded = text.casefold()
    found = [
        _sequences(np.array([_hash_word(word) for word in words], np.uint64), _NGRAM)
        for words in (_RUN.findall(folded), folded.split())
    ]
    return np.unique(np.concatenate(found))


def equal_to_earlier(hashes: "NDArray[np.int64]") -> "NDArray[np.int64]":
    """For each hash, the place of the first equal one, or -1 if it is the first itself."""
    import numpy as np

    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    found = first[inverse]
    found[found == np.arange(len(hashes))] = -1
    return found.astype(np.int64)


def near_earlier(signatures: "NDArray[np.uint32]", similarity: float) -> dict[int, int]:
    """Maps each near-duplicate among `signatures` (one per row) to the earlier row that it duplicates.

    Rows are processed in order: a row with a similarity of at least `similarity` to an earlier kept row
    is its duplicate; any other row is kept.
    """
    import numpy as np

    buckets = _shared_buckets(signatures)
    kept: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    found: dict[int, int] = {}
    for row, bands in sorted(buckets.items()):
        near = sorted({other for band in bands for other in kept[band][:_CANDIDATES]})
        alike = (signatures[near] == signatures[row]).mean(axis=1) if near else np.zeros(0)
        if len(alike) and alike.max() >= similarity:
            found[row] = near[int(alike.argmax())]
        else:
            for band in bands:
                kept[band].append(row)
    return found


def _shared_buckets(signatures: "NDArray[np.uint32]") -> dict[int, list[tuple[int, int]]]:
    """Maps each row that shares a band with another to the buckets (band, number) that it shares."""
    import numpy as np

    shared: dict[int, list[tuple[int, int]]] = {}
    width = PERMUTATIONS // _BANDS
    for band in range(_BANDS):
        part = signatures[:, band * width : (band + 1) * width].astype(np.uint64)
        _, number, count = np.unique(_combined(part.T), return_inverse=True, return_counts=True)
        for row in np.flatnonzero(count[number] > 1).tolist():
            shared.setdefault(row, []).append((band, int(number[row])))
    return shared


class Passages:
    """The kept word sequences of many texts, to measure their overlap."""

    def __init__(self, ngrams: Iterable[bytes]) -> None:
        import numpy as np

        ngrams = list(ngrams)
        self._hashes = np.frombuffer(b"".join(ngrams), "<u4")
        self._counts = np.array([len(some) // 4 for some in ngrams], np.int64)

    def shares(self, of: "NDArray[np.bool_]", within: "NDArray[np.bool_]") -> "NDArray[np.float64]":
        """For each text in the mask `of`, the share of its sequences that occur in texts of `within`.

        0 for a text that is not in the mask, or too short to be judged.
        """
        import numpy as np

        owner = np.repeat(np.arange(len(self._counts)), self._counts)
        known = np.sort(self._hashes[within[owner]])
        if not len(known):
            return np.zeros(len(self._counts))
        asked = np.flatnonzero(of[owner])
        # Faster than numpy's isin, which builds a hash table of `known`.
        places = np.minimum(np.searchsorted(known, self._hashes[asked]), len(known) - 1)
        hits = known[places] == self._hashes[asked]
        totals = np.bincount(owner[asked][hits], minlength=len(self._counts))
        judged = of & (self._counts >= _MIN_NGRAMS)
        return np.where(judged, totals / np.maximum(self._counts, 1), 0.0)
