"""Cuts a text by a model's tokens: encodes it once and cuts at the tokens' offsets."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ft_assets.errors import UserError
from ft_assets.stages.splitting.characters import Cut, Span, is_whole, skip_space, strip

if TYPE_CHECKING:
    from tokenizers import Encoding

Encode = Callable[[str], "Encoding"]

BLOCK = 100_000
"""Characters encoded at a time: larger blocks are not faster, and their memory grows with the text."""
_MARGIN = 250
"""Characters at a block's ends whose tokens are not used: they may differ from the whole text's."""
_HEAD = 6
"""Tokens at the start of a chunk that are encoded again, without the text before them."""


def token_cut(tokenizer: Any, chunk_size: int, chunk_overlap: int) -> Cut:
    """Cuts by tokens of `tokenizer`.

    No chunk, encoded by itself and without special tokens, has more than `chunk_size` tokens. A
    chunk ends at the last white space in its second half, if there is any, else after a whole
    character. The next chunk starts `chunk_overlap` tokens before that end, moved forward to the next
    white space if that is in the first half of the overlap, else to the next whole character. It
    starts even later only if it would contain no new word otherwise. Chunks have no white space at
    their ends.

    Raises UserError if the tokenizer does not report its tokens' offsets.
    """
    if not tokenizer.is_fast:
        raise UserError(
            "the base model's tokenizer reports no offsets, so text cannot be cut by its tokens: "
            "set langchain.splitter to recursive"
        )
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = tokenizer.split_special_tokens

    def encode(text: str) -> "Encoding":
        encoding: Encoding = backend.encode(text, add_special_tokens=False)
        return encoding

    return lambda text: _Cutter(encode, text, chunk_size, chunk_overlap).spans()


class _Tokens:
    """The tokens of the text from `begin` to `end`, by index; positions count in the whole text.

    Use only the first `count` tokens: those that start before the margin.
    """

    def __init__(self, encode: Encode, text: str, begin: int, end: int, margin: int = 0) -> None:
        self.begin, self.end = begin, min(end, len(text))
        self.is_last = self.end == len(text)
        self._encoding = encode(text[begin:end])
        self.count = len(self._encoding)
        if not self.is_last:
            self.count = self.index(self.end - margin, 0, self.count)

    def start_of(self, index: int) -> int:
        """Where a token starts; `begin` for the first, `end` for an index after the last."""
        if index == 0:
            return self.begin
        found = self._encoding.token_to_chars(index)
        return self.begin + found[0] if found else self.end

    def end_of(self, index: int) -> int:
        """Where a token ends."""
        found = self._encoding.token_to_chars(index)
        return self.begin + found[1] if found else self.end

    def index(self, at: int, low: int, high: int) -> int:
        """The first token in [`low`, `high`) that starts at `at` or later; `high` if there is none."""
        return bisect_left(range(high), at, low, high, key=self.start_of)

    def is_clean(self, index: int) -> bool:
        """Whether no character belongs to the tokens on both sides; bytes of one can be split."""
        return index == 0 or self.start_of(index) >= self.end_of(index - 1)


@dataclass
class _Cutter:
    encode: Encode
    text: str
    size: int
    overlap: int

    def spans(self) -> Iterator[Span]:
        """The spans of all chunks."""
        stop = len(self.text.rstrip())
        length = max(BLOCK, 16 * self.size)
        tokens, first, reached = _Tokens(self.encode, self.text, 0, length, _MARGIN), 0, 0
        while reached < stop and (first < tokens.count or not tokens.is_last):
            if not tokens.is_last and first + self.size + _HEAD >= tokens.count:
                at = tokens.start_of(first)
                begin = max(0, at - _MARGIN)
                length *= 1 if begin > tokens.begin else 2  # too few characters for one chunk
                tokens = _Tokens(self.encode, self.text, begin, begin + length, _MARGIN)
                first = tokens.index(at, 0, tokens.count)
                continue
            span, last = self._chunk(tokens, first, reached)
            if span[1] > reached:
                yield span
                reached = span[1]
            first = self._next(tokens, first, last)

    def _chunk(self, tokens: _Tokens, first: int, reached: int) -> tuple[Span, int]:
        """The chunk that starts with token `first`, and the token after its end.

        `reached` is the end of the previous chunk: this one must end after the next word at least.
        """
        start = skip_space(self.text, tokens.start_of(first), tokens.end)
        news = skip_space(self.text, reached, tokens.end)
        while first < tokens.count - 1 and tokens.end_of(first) <= start:
            first += 1
        head = self._head(tokens, first, start)
        last = min(tokens.count, first + self.size + (head or 0))
        if last < tokens.count:
            last = self._boundary(tokens, first, last, news)
        while True:
            start, end = strip(self.text, start, max(start, tokens.start_of(last)))
            while last > first + 1 and tokens.start_of(last - 1) >= end:
                last -= 1
            if head is not None and self._ends_as_alone(tokens, last, end):
                return (start, end), last
            over = len(self.encode(self.text[start:end])) - self.size
            if over <= 0 or last == first + 1:
                return (start, end), last
            last = self._boundary(tokens, first, max(first + 1, last - over), news)

    def _head(self, tokens: _Tokens, first: int, start: int) -> int | None:
        """How many tokens fewer the chunk has if encoded by itself than from `first` in the text.

        The two encodings agree from the first token that starts at the same place in both and has the
        same number of tokens after it; None if there is no token like that.
        """
        stop = min(first + _HEAD, tokens.count)
        while stop < tokens.count and not tokens.is_clean(stop):
            stop += 1
        alone = _Tokens(self.encode, self.text, start, tokens.start_of(stop))
        for index in range(alone.count - 1, 0, -1):
            at = alone.start_of(index)
            same = tokens.index(at, first, stop)
            both_start = tokens.start_of(same) == at
            both_clean = tokens.is_clean(same) and alone.is_clean(index)
            if both_start and both_clean and stop - same == alone.count - index:
                return same - first - index
        return None

    def _ends_as_alone(self, tokens: _Tokens, last: int, end: int) -> bool:
        """Whether the last token has no white space at its end, since the chunk is stripped of it.

        Some tokenizers leave white space out of the offsets; a space always belongs to the next token.
        """
        following = tokens.start_of(last)
        return tokens.end_of(last - 1) == end and (following == end or self.text[end] == " ")

    def _boundary(self, tokens: _Tokens, first: int, high: int, news: int) -> int:
        """The last good place, up to token `high`, to end a chunk that starts with `first`.

        White space counts only in the chunk's second half and after `news`.
        """
        low = first + (high - first) // 2
        begin, end = max(news, tokens.start_of(low)) + 1, tokens.start_of(high) + 1
        at = _last_space(self.text[begin:end])
        if at is not None:
            found = tokens.index(begin + at, low + 1, high)
            if self._is_whole(tokens, found):
                return found
        whole = (index for index in range(high, first, -1) if self._is_whole(tokens, index))
        clean = (index for index in range(high, first, -1) if tokens.is_clean(index))
        return next(whole, None) or next(clean, high)

    def _next(self, tokens: _Tokens, first: int, last: int) -> int:
        """The first token of the chunk after the one from `first` to `last`."""
        low = max(last - self.overlap, first + 1)
        at, middle = tokens.start_of(low), tokens.start_of(low + (last - low) // 2)
        space = _first_space(self.text[at - 1 : middle])
        if space is not None:
            found = tokens.index(at - 1 + space, low, last)
            if self._is_whole(tokens, found):
                return found
        return next((index for index in range(low, last) if self._is_whole(tokens, index)), last)

    def _is_whole(self, tokens: _Tokens, index: int) -> bool:
        """Whether a grapheme starts at a token."""
        return tokens.is_clean(index) and is_whole(self.text, tokens.start_of(index))


def _last_space(text: str) -> int | None:
    """The position of the last white space; None if there is none."""
    if not text or text[-1].isspace():
        return len(text) - 1 if text else None
    at = len(text) - len(text.rsplit(None, 1)[-1]) - 1
    return at if at >= 0 else None


def _first_space(text: str) -> int | None:
    """The position of the first white space; None if there is none."""
    if not text or text[0].isspace():
        return 0 if text else None
    at = len(text.split(None, 1)[0])
    return at if at < len(text) else None
