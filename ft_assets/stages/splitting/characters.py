"""Cuts a text recursively or by paragraph: LangChain's splitters, on exact offsets.

LangChain finds the pieces; which pieces make a chunk is counted here, by its rules. Its own
`add_start_index` looks each chunk's text up from where it may begin at the earliest, and so puts a
chunk too early where text repeats itself.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import regex

Span = tuple[int, int]
Cut = Callable[[str], Iterator[Span]]
"""Gives the (start, end) character offsets of each chunk of a text; starts and ends both rise."""

BLOCK = 1_000_000
"""Characters that are cut at a time, so that memory does not grow with the text."""

_NEAR = 100  # characters looked back at, at most, to tell where those that a reader sees begin


@cache
def _grapheme() -> "regex.Pattern[str]":
    import regex

    return regex.compile(r"\X")


def _is_plain(character: str) -> bool:
    """Whether a character never goes with the one before it: Latin, CJK."""
    return character < "\u0300" or "\u309b" <= character <= "\ua66e"


def is_whole(text: str, at: int) -> bool:
    """Whether `at` is between two characters as readers see them: not, say, before a combining mark."""
    if at in (0, len(text)) or _is_plain(text[at]):
        return True
    begin, limit = at - 1, max(0, at - _NEAR)
    while begin > limit and not _is_plain(text[begin]):
        begin -= 1
    return any(match.start() == at for match in _grapheme().finditer(text, begin, at + 1))


def skip_space(text: str, start: int, end: int) -> int:
    """Where the first character from `start` on that is no white space is; `end` where there is none.

    White space that carries a mark is none.
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
    """Cuts at the coarsest of paragraph, line, word and character that keeps to the size.

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
    """Cuts a block at a time; what a block's end may have cut short is begun anew in the next."""
    length = max(BLOCK, 8 * chunk_size)

    def cut(text: str) -> Iterator[Span]:
        begin = reached = 0
        while begin < len(text):
            found = spans(text[begin : begin + length])
            step = length
            if begin + length < len(text) and found and found[-1][0] > 0:
                step = found.pop()[0]
            for start, end in found:
                if begin + end > reached:  # else it repeats the end of the one before
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
        """The pieces, but where they are single characters those that readers see."""
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
