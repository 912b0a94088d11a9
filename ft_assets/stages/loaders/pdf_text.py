"""Cleans a PDF's text: ligatures, broken words and running lines; and finds its headings."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ft_assets.records import Heading
from ft_assets.stages.loaders.interface import clean

_LIGATURES = {
    "\ufb00": "ff",
    "\ufb01": "fi",
    "\ufb02": "fl",
    "\ufb03": "ffi",
    "\ufb04": "ffl",
    "\ufb05": "st",
    "\ufb06": "st",
}
_LIGATURE = re.compile(f"[{''.join(_LIGATURES)}]")
_GOES_ON = "\x02"
"""pdfium writes this in place of a hyphen at a line end; U+FFFE in other versions."""
_SOFT = "\xad"


def tidy(text: str) -> str:
    """Replaces ligatures and soft hyphens in the text of a page."""
    text = clean(text)
    if not text.isascii():
        text = _LIGATURE.sub(lambda found: _LIGATURES[found[0]], text)
        text = text.replace("\ufffe", _GOES_ON).replace(f"{_SOFT}\n", _GOES_ON).replace(_SOFT, "")
    return text.strip("\n")


_BREAK = re.compile(rf"{_GOES_ON}\n?|-\n")
_WORD = re.compile(r"\w+(?:-\w+)*")
_WORD_BEFORE = re.compile(r"\w+(?:-\w+)*$")
_WORD_AFTER = re.compile(r"\w+")
_MAX_WORD = 64


@dataclass(frozen=True)
class _Broken:
    """A word broken at `start` to `end` of a page's text, with its two halves."""

    start: int
    end: int
    left: str
    right: str


def _broken_words(text: str) -> list[_Broken]:
    found = []
    for mark in _BREAK.finditer(text):
        start, end = mark.span()
        left = _WORD_BEFORE.search(text, max(0, start - _MAX_WORD), start)
        right = _WORD_AFTER.match(text, end, end + _MAX_WORD)
        if left and right:
            found.append(_Broken(start, end, left[0], right[0]))
    return found


def dehyphenated(texts: list[str], *, join: bool) -> list[str]:
    """The pages with words joined that were broken at line ends; unchanged if not `join`.

    A hyphen is kept if it is part of the word: see `_joiner`.
    """
    broken = [_broken_words(text) for text in texts]
    if join and any(broken):
        known = _whole_words(texts, broken)
        pairs = zip(texts, broken, strict=True)
        texts = [_joined(text, words, known) for text, words in pairs]
    return [re.sub(rf"{_GOES_ON}\n?", "-\n", text) if _GOES_ON in text else text for text in texts]


def _whole_words(texts: list[str], broken: list[list[_Broken]]) -> set[str]:
    """The unbroken words of a document."""
    known: set[str] = set()
    for text, words in zip(texts, broken, strict=True):
        reached = 0
        for word in words:
            known.update(_WORD.findall(text[reached : word.start - len(word.left)].casefold()))
            reached = word.end + len(word.right)
        known.update(_WORD.findall(text[reached:].casefold()))
    return known


def _joined(text: str, words: list[_Broken], known: set[str]) -> str:
    """The text with its broken words joined; a joined word stays on the first line."""
    pieces, reached = [], 0
    for word in words:
        pieces += [text[reached : word.start], _joiner(word.left, word.right, known)]
        reached = word.end
        if text[word.start] == "-":
            rest = _REST_OF_WORD.match(text, reached)
            reached = rest.end() if rest else reached
            pieces += [rest[1] if rest else "", "\n"]
    return "".join([*pieces, text[reached:]])


_REST_OF_WORD = re.compile(rf"([^\s{_GOES_ON}-]*) ?")


def _joiner(left: str, right: str, known: set[str]) -> str:
    """`-` if the hyphen at a break is part of the word, else "".

    It is part of the word if the document has the word with a hyphen elsewhere, if a digit or a capital
    is next to it, or if both halves are words of the document and the joined word is not.
    """
    if f"{left}-{right}".casefold() in known:
        return "-"
    if f"{left}{right}".casefold() in known:
        return ""
    is_name = left[-1].isdigit() or not right[0].islower() or left[1:].isupper()
    last = left.rpartition("-")[2]
    are_words = min(len(last), len(right)) > 3 and {last.casefold(), right.casefold()} <= known
    return "-" if is_name or are_words else ""


_EDGE_LINES = 2
_RECURS = 3
_NUMBER = re.compile(r"\d+|\b[ivxlc]+\b", re.IGNORECASE)


def without_running_lines(texts: list[str]) -> list[str]:
    """The pages without headers and footers.

    These are lines among the first or last two of a page that occur, apart from numbers, on three or
    more pages.
    """
    pages = [text.split("\n") for text in texts]
    seen: Counter[tuple[bool, str]] = Counter()
    for lines in pages:
        seen.update({(False, _masked(line)) for line in _edge(lines)})
        seen.update({(True, _masked(line)) for line in _edge(lines[::-1])})
    running = {key for key, count in seen.items() if count >= _RECURS}
    stripped = []
    for lines in pages:
        rest = _strip(lines, running, at_end=False)
        stripped.append("\n".join(_strip(rest[::-1], running, at_end=True)[::-1]))
    return stripped


def _masked(line: str) -> str:
    return _NUMBER.sub("#", " ".join(line.split()))


def _edge(lines: list[str]) -> list[str]:
    return [line for line in lines if line.strip()][:_EDGE_LINES]


def _strip(lines: list[str], running: set[tuple[bool, str]], *, at_end: bool) -> list[str]:
    """The lines without the running lines at their start."""
    left = _EDGE_LINES
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        if not left or (at_end, _masked(line)) not in running:
            return lines[number:]
        left -= 1
    return []


@dataclass(frozen=True)
class Mark:
    """An entry of a PDF's outline; pages count from 0, levels from 1."""

    page: int
    level: int
    title: str


def placed_headings(outline: list[Mark], texts: list[str]) -> Iterator[list[Heading]]:
    """The headings of each page, at the position of their title, else at the start of the page."""
    by_page: dict[int, list[Mark]] = {}
    for mark in outline:
        by_page.setdefault(mark.page, []).append(mark)
    for number, text in enumerate(texts):
        headings: list[Heading] = []
        reached = 0
        for mark in by_page.get(number, ()):
            if (start := _find_title(mark.title, text, reached)) is not None:
                reached = start + 1
            place = 0 if start is None else start
            headings.append({"start": place, "level": mark.level, "title": mark.title})
        yield sorted(headings, key=lambda heading: heading["start"])


_NUMBERED = re.compile(
    r"[ \t]*(?:(?i:chapter|part|appendix)\s+)?(?:(?:\d+|[A-Z]|[IVXLC]+)(?:\.\d+)*[.:]?\s+)?"
)
_MAX_PREFIX = 40
_MAX_TITLE = 300
"""The longest title that is searched for: it becomes a regular expression."""


def _find_title(title: str, text: str, reached: int) -> int | None:
    """The position of a title from `reached` on; a line of its own, perhaps numbered, is preferred."""
    first = None
    for place in _places(title[:_MAX_TITLE], text, reached):
        line = text.rfind("\n", 0, place) + 1
        above = text.rfind("\n", 0, max(0, line - 1)) + 1
        for start in (line, above):  # `Chapter 3` may be on a line of its own
            prefix = text[start:place]
            if len(prefix) <= _MAX_PREFIX and _NUMBERED.fullmatch(prefix):
                return place - len(prefix.lstrip())
        first = place if first is None else first
    return first


def _places(title: str, text: str, reached: int) -> Iterator[int]:
    """The positions of a title from `reached` on; titles broken over lines are found too."""
    place = text.find(title, reached)
    if place < 0 and title.split()[0].casefold() in text.casefold():
        words = r"[\s-]+".join(re.escape(word) for word in title.split())
        for found in re.compile(words, re.IGNORECASE).finditer(text, reached):
            yield found.start()
    while place >= 0:
        yield place
        place = text.find(title, place + 1)
