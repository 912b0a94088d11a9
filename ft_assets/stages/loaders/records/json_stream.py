"""JSON values one after the other, read from a stream a piece at a time."""

import json
import re
from collections.abc import Generator, Iterator
from typing import Any, TextIO

from ft_assets.stages.loaders.records.entries import (
    MAX_RECORD,
    TOO_LONG,
    Decoder,
    Entry,
    not_json,
)
from ft_assets.stages.loaders.records.spelling import has_format
from ft_assets.stages.loaders.records.wrappers import WRAPPERS, is_turn

_PIECE = 1 << 16
"""Characters that are read at a time. An error costs as much: the decoder counts lines up to it."""
_BETWEEN = re.compile(r"[ \t\r\n,\ufeff\x1e]*")
_SIMPLE = r'(?:"[^"\\]{0,1000}"|[\d.eE+-]{1,40}|true|false|null)'
_WRAPPER = re.compile(
    rf'\{{\s*(?:"[^"\\]{{1,40}}"\s*:\s*{_SIMPLE}\s*,\s*){{0,20}}"([^"\\]{{1,40}})"\s*:\s*\[\s*'
)
_LIST = re.compile(rf'"(?:{"|".join(sorted(WRAPPERS))})"\s*:\s*\[\s*\{{', re.IGNORECASE)
_NEXT = re.compile(r"\}\s*,?\s*\{")
_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)
_NEAR_END = 16
"""An error this close to the end of what was read may come from a number or word that was cut in two."""
_BUDGET = 256 * 2**20
"""The most characters that are read again after errors; it bounds the time that a bad file costs."""


class JSONStream:
    """Text read from a stream as far as it is needed; `at` is the position of the next value."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._decoder = stream, Decoder()
        self.text, self.at, self._ended = "", 0, False
        self._line, self._counted = 1, 0
        self.indent: str | None = ""
        """The white space before the next value, if it is the first in its line."""

    def more(self) -> bool:
        """Reads on, as much again as is waiting; false at the end of the text."""
        piece = "" if self._ended else self._stream.read(max(_PIECE, len(self.text) - self.at))
        self._ended = not piece
        self.text += piece
        return bool(piece)

    def line(self) -> int:
        """The line of the next value."""
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def next(self) -> str:
        """Moves to the next value or bracket and returns its first character; "" at the end."""
        if self.at > _PIECE:
            self.line()
            self.text, self.at, self._counted = self.text[self.at :], 0, 0
        passed = ""
        while True:
            found = _BETWEEN.match(self.text, self.at)
            end = found.end() if found else self.at
            passed += self.text[self.at : end]
            self.at = end
            if end < len(self.text) or not self.more():
                break
        before, _, last = passed.rpartition("\n")
        is_first = bool(before) or "\n" in passed or self.at == len(passed)
        self.indent = last.strip("\ufeff") if is_first else None
        return self.text[self.at : self.at + 1]

    def decode(self, at: int, most: int) -> tuple[Any, int, str | None]:
        """The value at a position, its end and its problem.

        Raises ValueError or RecursionError if it is not JSON or has more than `most` characters.
        """
        while True:
            try:
                value, end, problem = self._decoder.decode(self.text, at)
                if end < len(self.text) or self.text[end - 1] in '}]"' or not self.more():
                    return value, end, problem
            except json.JSONDecodeError as error:
                cut = "Unterminated" in error.msg or error.pos > len(self.text) - _NEAR_END
                if not cut or (len(self.text) - at <= most and not self.more()):
                    raise
            if len(self.text) - at > most:
                raise ValueError(TOO_LONG)

    def rest(self) -> Iterator[str]:
        """What is left, a piece at a time."""
        yield self.text[self.at :]
        while piece := self._stream.read(_PIECE):
            yield piece

    def line_like(self, in_list: bool) -> int | None:
        """The position of the next line that begins as this value's line does; None if none is certain.

        A value that stands on several lines without an indent does not differ from what is in it, unless
        it follows the end of another.
        """
        if self.indent is None or self.text[self.at] != "{":
            return None
        bare = re.compile(r"\{[ \t\r]*\n").match(self.text, self.at) is not None
        if bare and not self.indent and in_list:
            return None
        before = r"\n\}[ \t\r\n,]*" if bare and not self.indent else ""
        shape = (
            before + r"\n" + re.escape(self.indent) + (r"\{[ \t\r]*\n" if bare else r'\{[ \t]*["}]')
        )
        found = self._search(re.compile(shape))
        return found.end() - len(found[0].rsplit("{", 1)[1]) - 1 if found else None

    def _search(self, shape: "re.Pattern[str]") -> "re.Match[str] | None":
        while True:
            found = shape.search(self.text, self.at + 1)
            if found or len(self.text) - self.at > 2 * MAX_RECORD or not self.more():
                return found

    def bracket_end(self) -> int | None:
        """The position after this value's closing bracket; None if the brackets do not add up to one."""
        if self.text[self.at] not in "[{":
            return None
        while True:
            depth = 0
            for found in _BRACKET.finditer(self.text, self.at):
                depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
                if depth == 0:
                    return self._checked(found.end())
            if len(self.text) - self.at > 2 * MAX_RECORD or not self.more():
                return None

    def _checked(self, end: int) -> int | None:
        """`end` if what follows is what may follow a value."""
        if end + _NEAR_END * 64 > len(self.text):
            self.more()
        found = re.compile(r"[\s\ufeff]*(?:$|\]|,?[\s\ufeff]*[\[{\"])").match(self.text, end)
        return end if found else None


class Values:
    """The values of a text; the items of its lists, and of its wrapper objects, count as values."""

    def __init__(self, text: TextIO) -> None:
        self._text = JSONStream(text)
        self._budget = _BUDGET
        self._good = self._good_size = 0

    def entries(self) -> Iterator[Entry]:
        """The entries in order; what cannot be read any more is the last one."""
        while first := self._text.next():
            if first == "[" and not self._is_conversation():
                self._text.at += 1
                more = yield from self._items()
            elif first in "]}":
                yield self._lost("not JSON (a bracket closes nothing)")
                return
            else:
                more = yield from self._outer()
            if not more:
                return

    def _is_conversation(self) -> bool:
        """Whether the list here is one conversation without a key: its items are turns."""
        text, start = self._text, self._text.at
        try:
            text.at += 1
            return text.next() == "{" and is_turn(text.decode(text.at, MAX_RECORD)[0])
        except (ValueError, RecursionError):
            return False
        finally:
            text.at = start

    def _items(self) -> "_Going":
        """The items of a list whose bracket has been passed."""
        while first := self._text.next():
            if first == "]":
                self._text.at += 1
                return True
            if not (yield from self._one(in_list=True)):
                return False
        line = self._text.line()
        yield Entry(
            line, problem="not JSON: the list has no end, the file may be cut short", lost=0
        )
        return False

    def _outer(self) -> "_Going":
        """A value outside of lists; an object that only wraps a long list is read item by item."""
        text = self._text
        try:
            value, end, problem = text.decode(text.at, MAX_RECORD)
        except (ValueError, RecursionError):
            found = _WRAPPER.match(text.text, text.at)
            if found and self._wraps(found):
                return (yield from self._wrapped(found.end()))
            return (yield from self._one(in_list=False))
        yield Entry(text.line(), value, problem)
        self._passed(end)
        return True

    def _wraps(self, found: "re.Match[str]") -> bool:
        """Whether an object that begins like this wraps records: by its key, or by the first of them."""
        if found[1].lower() in WRAPPERS:
            return True
        try:
            first, _, _ = self._text.decode(found.end(), MAX_RECORD)
        except (ValueError, RecursionError):
            return False
        return isinstance(first, dict) and not is_turn(first) and has_format(first)

    def _wrapped(self, start: int) -> "_Going":
        """The items of a wrapper object whose list begins at `start`; its other keys are passed over."""
        text = self._text
        text.at = start
        if not (yield from self._items()):
            return False
        while (first := text.next()) and first != "}":
            try:
                _, text.at, _ = text.decode(text.at, MAX_RECORD)
                if text.next() == ":":
                    text.at += 1
            except (ValueError, RecursionError) as error:
                yield Entry(text.line(), problem=f"{not_json(error)} after the list", lost=0)
                return False
        text.at += 1
        return True

    def _one(self, *, in_list: bool) -> "_Going":
        """The value here, or its problem; false if the text after it cannot be read."""
        text, line = self._text, self._text.line()
        try:
            value, end, problem = text.decode(text.at, MAX_RECORD)
        except (ValueError, RecursionError) as error:
            problem = not_json(error) if str(error) != TOO_LONG else TOO_LONG
            at = getattr(error, "pos", text.at)
            line += text.text.count("\n", text.at, at) if at > text.at else 0
            self._budget -= max(
                len(text.text) - text.at if problem == TOO_LONG else 0, at - text.at
            )
            resumed = self._resumed(in_list)
            passed = text.text[text.at : resumed] if resumed and not in_list else ""
            lost = 1 + len(_NEXT.findall(passed)) if _LIST.search(passed) else 1
            if resumed is None:
                yield self._lost(problem, line)
            else:
                yield Entry(line, problem=problem, lost=lost)
            text.at = resumed or text.at
            return resumed is not None
        if end - text.at > MAX_RECORD:
            problem = TOO_LONG
        yield Entry(line, value, problem)
        self._passed(end)
        return True

    def _passed(self, end: int) -> None:
        self._good, self._good_size = self._good + 1, self._good_size + end - self._text.at
        self._text.at = end

    def _resumed(self, in_list: bool) -> int | None:
        """The position where reading can continue after a value with an error."""
        if self._budget < 0:
            return None
        end = self._text.line_like(in_list) or self._text.bracket_end()
        self._budget -= end - self._text.at if end else 0
        return end

    def _lost(self, problem: str, line: int | None = None) -> Entry:
        """The entry for all that is left; the number of its records is an estimate."""
        size = nexts = 0
        line = line or self._text.line()
        for piece in self._text.rest():
            size += len(piece)
            nexts += 0 if self._good else max(len(_NEXT.findall(piece)), piece.count("\n{"))
        lost = round(size * self._good / self._good_size) if self._good else 1 + nexts
        rest = "the rest of the file was not read" + (
            f", about {lost:,} records" if lost > 1 else ""
        )
        return Entry(line, problem=f"{problem}; {rest}", lost=max(1, lost))


_Going = Generator[Entry, None, bool]
