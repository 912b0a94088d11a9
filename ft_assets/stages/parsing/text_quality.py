"""How the text of a document looks: words that are glued, characters that no text has, and so on.

Costs far less than getting the text: long texts are judged by samples, which the text alone decides.
"""

import re
import unicodedata
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

from ft_assets.records import Quality
from ft_assets.stages.parsing.languages import language_identifier

if TYPE_CHECKING:
    import numpy as np

EMPTY_PAGE = 16
"""Visible characters below which a page has no text to speak of."""
GLUED = 10.0
"""Mean letters a word above which words count as glued. Running text has 4 to 6 in most languages
that put spaces between words, 8 in Finnish, up to 9 in agglutinative ones."""
LONG_WORD = 24
LONG = 0.1
"""Share of the letters in words of over LONG_WORD letters above which words count as glued. Text has
next to none, German 0.01; what pypdf makes of TeX files that it misreads has 0.4 to 0.8, while their
mean may be as low as 8.5."""
APART = 1.7
"""Mean letters a word below which words count as torn apart: `l i k e t h i s`. Even Vietnamese,
whose syllables stand apart, has over 3."""
ODD = 0.02
"""Share of characters that text does not have above which it counts as damaged. A formula or a
logo here and there stays far below; a font without a character map is all of them."""
BROKEN = 0.2
"""Share of lines that end in a broken word above which they are in the way. Narrow columns have
up to 0.15, and what the loaders join again is not counted."""
_MIN_JUDGED = 400
"""Letters below which the length of words says nothing: a few long names are no damage."""
_MIN_CHARACTERS = 200
_MIN_LINES = 50
_MIN_LETTERS = 20
"""Letters below which no language is told."""
_LIKELY = 0.5
_LANGUAGE_SAMPLE = 2_000
_WHOLE = 64 * 1024
"""Characters of a page up to which all of it is looked at; else that many, in windows."""
_WINDOWS = 16
_ALL_PAGES = 256
_EVERY = 16
"""Up to _ALL_PAGES pages all are looked at, from then on one of so many."""

_OTHER, _LETTER, _MARK, _UNSPACED, _ODD, _SPACE, _UNMET = range(7)
_UNSPACED_SCRIPTS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x109F),  # Tibetan, Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x9FFF),  # CJK, kana
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
)
"""Scripts that put no spaces between words."""
_CID = re.compile(r"\(cid:\d+\)")
_BROKEN_LINE = re.compile(r"[^\W\d_]-$")
_SIXTEEN = re.compile(rf"(?:\S\s*){{{EMPTY_PAGE}}}")


@cache
def _table() -> "np.ndarray[Any, Any]":
    """What each character is to us, as far as any was met."""
    import numpy as np

    return np.full(0x110000, _UNMET, np.uint8)


def _kinds(text: str) -> "np.ndarray[Any, Any]":
    """What the characters of a text are to us."""
    import numpy as np

    codes = np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32)
    kinds = _table()[codes]
    unmet = kinds == _UNMET
    if unmet.any():
        for code in np.unique(codes[unmet]).tolist():
            _table()[code] = _kind(code)
        kinds = _table()[codes]
    return kinds


def _kind(code: int) -> int:
    if any(first <= code <= last for first, last in _UNSPACED_SCRIPTS):
        return _UNSPACED
    category = unicodedata.category(chr(code))
    if code == 0xFFFD or category in ("Co", "Cn", "Cs"):
        return _ODD
    if category == "Cc":
        return _SPACE if chr(code).isspace() else _ODD
    if category[0] == "L":
        return _LETTER
    return {"M": _MARK, "Z": _SPACE}.get(category[0], _OTHER)


class Meter:
    """Looks at the pages of one document, one after the other."""

    def __init__(self) -> None:
        self._pages = self._empty = self._characters = 0
        self._seen = self._odd = self._letters = self._words = self._in_long = 0
        self._lines: Counter[str] = Counter()
        self._broken = 0
        self._sample = ""

    def add(self, text: str) -> None:
        """Looks at the next page."""
        self._characters += len(text)
        self._empty += _SIXTEEN.search(text) is None
        if self._pages < _ALL_PAGES or self._pages % _EVERY == 0:
            for window in _windows(text):
                self._look(window)
        self._pages += 1

    def _look(self, text: str) -> None:
        import numpy as np

        kinds = _kinds(text)
        counts = np.bincount(kinds, minlength=_SPACE + 1)
        lengths = _word_lengths(kinds)
        self._words += len(lengths)
        self._in_long += int(lengths[lengths > LONG_WORD].sum())
        self._letters += int(counts[_LETTER])
        self._seen += len(kinds)
        self._odd += int(counts[_ODD])
        if "(cid:" in text:
            self._odd += sum(map(len, _CID.findall(text)))
        lines = [line for line in map(str.strip, text.split("\n")) if line]
        self._lines.update(lines)
        self._broken += sum(1 for line in lines if line[-1] == "-" and _BROKEN_LINE.search(line))
        if len(self._sample) < _LANGUAGE_SAMPLE:
            self._sample += f"{text[: _LANGUAGE_SAMPLE - len(self._sample)]}\n"

    def quality(self, text_id: str) -> Quality:
        """What was seen, as a row."""
        lines = self._lines.total()
        repeated = sum(count for count in self._lines.values() if count > 1)
        mean = round(self._letters / self._words, 2) if self._words else None
        odd = round(self._odd / max(1, self._seen), 4)
        hyphens = round(self._broken / max(1, lines), 4)
        return Quality(
            text_id=text_id,
            pages=self._pages,
            empty_pages=self._empty,
            characters=self._characters,
            mean_word_length=mean,
            odd_share=odd,
            hyphen_share=hyphens,
            repeated_share=round(repeated / max(1, lines), 4),
            language=_language(self._sample),
            problem=self._problem(mean, odd, hyphens, lines),
        )

    def _problem(self, mean: float | None, odd: float, hyphens: float, lines: int) -> str | None:
        problems = []
        if mean is not None and self._letters >= _MIN_JUDGED:
            if mean > GLUED or self._in_long > LONG * self._letters:
                problems.append(f"words are glued together ({mean:.1f} letters a word)")
            if mean < APART:
                problems.append(f"words are torn apart ({mean:.1f} letters a word)")
        if odd > ODD and self._seen >= _MIN_CHARACTERS:
            problems.append(f"{odd:.1%} of its characters are none that text has")
        if hyphens > BROKEN and lines >= _MIN_LINES:
            problems.append(f"{hyphens:.0%} of its lines end in a broken word")
        return "; ".join(problems) or None


def _word_lengths(kinds: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """The lengths of the runs of letters and their marks."""
    import numpy as np

    in_word = np.zeros(len(kinds) + 2, np.int8)
    in_word[1:-1] = (kinds == _LETTER) | (kinds == _MARK)
    turns = np.diff(in_word)
    return np.flatnonzero(turns < 0) - np.flatnonzero(turns > 0)


def _windows(text: str) -> list[str]:
    """All of a text, or windows of a long one at even distances, each of whole lines if it can be."""
    if len(text) <= _WHOLE:
        return [text]
    step, size = len(text) // _WINDOWS, _WHOLE // _WINDOWS
    return [text[start : start + size] for start in range(0, step * _WINDOWS, step)]


@cache
def _identifier() -> Any:
    return language_identifier()


def preload() -> None:
    """Loads what judging a text needs, so that forked processes share it."""
    _identifier()


def _language(sample: str) -> str | None:
    """The language that a sample is most likely in; None where that is not clear."""
    if sum(map(str.isalpha, sample)) < _MIN_LETTERS:
        return None
    language, probability = _identifier().classify(sample)
    return str(language) if probability >= _LIKELY else None
