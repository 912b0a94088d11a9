"""JSON of every layout: one value a line, one list, or values one after the other.

What a file is, its content says. One bad line costs that line; in lists and among other values reading
continues at the next value where its start is certain.
"""

from collections.abc import Callable, Iterator
from typing import TextIO

from ft_assets.stages.loaders.records.entries import (
    MAX_RECORD,
    TOO_LONG,
    Decoder,
    Entry,
    not_json,
)
from ft_assets.stages.loaders.records.json_stream import Values

OpensText = Callable[[], TextIO]
"""Opens the text of a file at its start."""

_REST = 1 << 20
_BLANK = " \t\r\n\ufeff\x1e"
"""White space of JSON, byte-order marks (files that were joined have one inside), record separators."""


def json_entries(opens: OpensText, start: str) -> Iterator[Entry]:
    """The values in a JSON or JSON Lines text, the items of lists one by one.

    `start` is the text's first character that is not white space.
    """
    with opens() as text:
        by_line = _has_values_by_line(text, start)
    with opens() as text:
        yield from _line_entries(text) if by_line else Values(text).entries()


def _has_values_by_line(text: TextIO, start: str) -> bool:
    """Whether each line is a value: a look at the first two lines that are not blank."""
    found = (line for line in _lines(text) if line is None or line.strip(_BLANK))
    first, second = next(found, ""), next(found, "")
    if first and _is_json(first):
        return second != ""
    if start == "[" or (first is None and second == ""):
        return False
    return start != "{" or first is None or bool(second and _is_json(second))


def _lines(text: TextIO) -> Iterator[str | None]:
    """The lines; None for a line longer than MAX_RECORD, which is skipped to bound memory."""
    while line := text.readline(MAX_RECORD + 1):
        if len(line) <= MAX_RECORD or line.endswith("\n"):
            yield line
            continue
        while (more := text.readline(_REST)) and not more.endswith("\n"):
            pass
        yield None


def _line_entries(text: TextIO) -> Iterator[Entry]:
    decoder = Decoder()
    for place, line in enumerate(_lines(text), start=1):
        if line is None:
            yield Entry(place, problem=TOO_LONG)
            continue
        content = line.strip(_BLANK)
        if not content:
            continue
        try:
            yield from _entries_in(decoder, content, place)
        except (ValueError, RecursionError) as error:
            yield Entry(place, problem=not_json(error))


def _entries_in(decoder: Decoder, line: str, place: int) -> list[Entry]:
    """The values of a line, mostly one; raises ValueError or RecursionError if one is not JSON."""
    found, at = [], 0
    while at < len(line):
        value, at, problem = decoder.decode(line, at)
        found.append(Entry(place, value, problem))
        while at < len(line) and (line[at] in _BLANK or line[at] == ","):
            at += 1
    return found


def _is_json(line: str) -> bool:
    try:
        return bool(_entries_in(Decoder(), line.strip(_BLANK), 0))
    except (ValueError, RecursionError):
        return False
