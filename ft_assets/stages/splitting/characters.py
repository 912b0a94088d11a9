"""Cuts a text recursively or by paragraph: like LangChain's splitters, with exact offsets.

LangChain finds the pieces; they are merged to chunks here, by its rules. Its own `add_start_index` searches
for each chunk's text from its earliest possible start, so the offset is too early if text repeats.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import regex

Span = tuple[int, int]
Cut = Callable[[str], Iterator[Span]]
"""Yields the (start, end) character offsets of each chunk of a text; starts and ends both increase."""

BLOCK = 1_000_000
"""Characters that are cut at a time, so that memory use does not grow with the text."""

_NEAR = 100
"""The most characters to look back for the start of a grapheme, so that the search stays cheap."""


@cache
def _grapheme() -> "regex.Pattern[str]":
    import regex

    return regex.compile(r"\X")


def _is_plain(character: str) -> bool:
    """Whether a character never joins a grapheme with the one before it, as in Latin and CJK."""
    return character < "\u0300" or "\u309b" <= character <= "\ua66e"


def is_whole(text: str, at: int) -> bool:
    """Whether `at` is between two graphemes: not, for example, before a combining mark."""
    if at in (0, len(text)) or _is_plain(text[at]):
        return True
    begin, limit = at - 1, max(0, at - _NEAR)
    while begin > limit and not _is_plain(text[begin]):
        begin -= 1
    return any(match.start() == at for match in _grapheme().finditer(text, begin, at + 1))


def skip_space(text: str, start: int, end: int) -> int:
    """The position of the first character from `start` that is not white space; `end` if there is none.

    White space with a combining mark does not count as white space.
    """
    at = start
    while at < end and text[at].isspace():
        at += 1
    return at - 1 if start < at < end and not is_whole(text, at) else at


def strip(text: str, start: int, end: int) -> Span:
    """The span without white space at its ends."""
    start = skip_space(text, start, end)
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def recursive_cut(chunk_size: int, chunk_overlap: int) -> Cut:
    """Cuts between paragraphs, lines, words or characters: the coarsest that keeps to the size.

    No chunk is over `chunk_size` characters. Two chunks have at most `chunk_overlap` characters in
    common: as many whole pieces (paragraphs, lines or words) as fit.
    """
    return _in_blocks(_recursive(chunk_size, chunk_overlap).spans, chunk_size)


def character_cut(chunk_size: int, chunk_overlap: int) -> Cut:
    """Cuts between paragraphs; a paragraph over the size is cut again, recursively.

    No chunk is over `chunk_size` characters. Two chunks have at most `chunk_overlap` characters in
    common: as many whole paragraphs as fit.
    """
    paragraphs = _paragraphs(chunk_size, chunk_overlap)
    finer = _recursive(chunk_size, chunk_overlap)

    def spans(text: str) -> Iterator[Span]:
        for start, end in paragraphs.spans(text):
            if end - start <= chunk_size:
                yield start, end
            else:
                yield from ((start + a, start + b) for a, b in finer.spans(text[start:end]))

    return _in_blocks(lambda text: list(spans(text)), chunk_size)


def _in_blocks(spans: Callable[[str], list[Span]], chunk_size: int) -> Cut:
    """Cuts a block at a time; a block's last chunk may be cut short, so the next block restarts it."""
    length = max(BLOCK, 8 * chunk_size)

    def cut(text: str) -> Iterator[Span]:
        begin = reached = 0
        while begin < len(text):
            found = spans(text[begin : begin + length])
            step = length
            if begin + length < len(text) and found and found[-1][0] > 0:
                step = found.pop()[0]
            for start, end in found:
                if begin + end > reached:  # otherwise it only repeats the end of the chunk before
                    reached = begin + end
                    yield begin + start, reached
            begin += step

    return cut


class _Spans:
    """For a LangChain splitter: merges its pieces into spans rather than into texts.

    LangChain gives every piece once, in order and with its separator, a level of pieces at a time.
    """

    _chunk_size: int
    _chunk_overlap: int
    split_text: Callable[[str], list[str]]

    def spans(self, text: str) -> list[Span]:
        """The spans of all chunks of the text, without white space at their ends."""
        self._text, self._at, self._found = text, 0, list[Span]()
        self.split_text(text)
        return self._found

    def _merge_splits(self, splits: list[str], separator: str) -> list[str]:
        begin = end = self._at
        starts: list[int] = []
        dropped = 0
        for length in map(len, self._graphemes(splits)):
            if end - begin + length > self._chunk_size:
                self._add(begin, end)
                while begin < end and (
                    end - begin > self._chunk_overlap or end - begin + length > self._chunk_size
                ):
                    dropped += 1
                    begin = starts[dropped] if dropped < len(starts) else end
            starts.append(end)
            end += length
        self._add(begin, end)
        self._at = end
        return []

    def _add(self, begin: int, end: int) -> None:
        span = strip(self._text, begin, end)
        if span[0] < span[1]:
            self._found.append(span)

    def _graphemes(self, splits: list[str]) -> list[str]:
        """The pieces; single characters are joined to graphemes, if these fit into a chunk."""
        text = "".join(splits)
        if len(text) > len(splits) or text.isascii():
            return splits
        seen = _grapheme().findall(text)
        fits = self._chunk_size
        return [piece for one in seen for piece in ([one] if len(one) <= fits else one)]


def _recursive(chunk_size: int, chunk_overlap: int) -> _Spans:
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    class Recursive(_Spans, RecursiveCharacterTextSplitter):  # type: ignore[misc]
        pass

    return Recursive(chunk_size=chunk_size, chunk_overlap=chunk_overlap)


def _paragraphs(chunk_size: int, chunk_overlap: int) -> _Spans:
    from langchain_text_splitters import CharacterTextSplitter

    class Paragraphs(_Spans, CharacterTextSplitter):  # type: ignore[misc]
        pass

    return Paragraphs(
        separator="\n\n",
        keep_separator="end",  # so that a chunk stays an exact piece of the text
        chunk_size=chunk_size,
        chunk_overlap=chunk_overlap,
    )
