"""Cuts a text by the tokens of a model: encodes it once and cuts on the tokens' offsets."""

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
"""Characters encoded at a time: larger blocks are no faster, and their memory grows with the text."""
_MARGIN = 250
"""Characters at a block's ends whose tokens are not used: they may not be what the whole's are."""
_HEAD = 6
"""Tokens at the begin of a chunk that are encoded again, without what stands before them."""


def token_cut(tokenizer: Any, chunk_size: int, chunk_overlap: int) -> Cut:
    """Cuts by tokens of `tokenizer`.

    No chunk, encoded by itself and without special tokens, has more than `chunk_size` tokens. A
    chunk ends at the last white space in its second half, where there is any, else after a whole
    character. The next one begins exactly `chunk_overlap` tokens of the text before that end, or
    fewer by the move to the next white space, if that comes before half of them, else to the next
    whole character; later still only where it would not get to a new word otherwise. White space
    at the ends of chunks is left out.

    Raises UserError where the tokenizer does not say which characters its tokens are.
    """
    if not tokenizer.is_fast:
        raise UserError(
            "the base model's tokenizer gives no offsets, so text cannot be cut by its tokens: "
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
    """The tokens of the text from `begin` to `end`, by index; positions are in the whole text.

    Of the tokens only the first `count` are to be used: those that start before the margin.
    """

    def __init__(self, encode: Encode, text: str, begin: int, end: int, margin: int = 0) -> None:
        self.begin, self.end = begin, min(end, len(text))
        self.is_last = self.end == len(text)
        self._encoding = encode(text[begin:end])
        self.count = len(self._encoding)
        if not self.is_last:
            self.count = self.index(self.end - margin, 0, self.count)

    def start_of(self, index: int) -> int:
        """Where a token starts: the first at the begin, what comes after the last at the end."""
        if index == 0:
            return self.begin
        found = self._encoding.token_to_chars(index)
        return self.begin + found[0] if found else self.end

    def end_of(self, index: int) -> int:
        """Where a token ends."""
        found = self._encoding.token_to_chars(index)
        return self.begin + found[1] if found else self.end

    def index(self, at: int, low: int, high: int) -> int:
        """The first token from `low` on, and before `high`, that starts at `at` or later."""
        return bisect_left(range(high), at, low, high, key=self.start_of)

    def is_clean(self, index: int) -> bool:
        """Whether no character is of the tokens on both sides: one can be of several."""
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
        """The chunk that begins with token `first`, and the token after its end.

        `reached` is where the chunk before ends: this one is to end after the next word at least.
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
        """How many tokens fewer the chunk has by itself than from `first` on in the text.

        Both ways of encoding its begin are the same from the first token on that starts at the same
        place in both, if the tokens after that are as many; None where there is no such token.
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
        """Whether the last token has no white space at its end, which the chunk is without.

        Some tokenizers leave white space out of the offsets; a space always goes with what follows.
        """
        following = tokens.start_of(last)
        return tokens.end_of(last - 1) == end and (following == end or self.text[end] == " ")

    def _boundary(self, tokens: _Tokens, first: int, high: int, news: int) -> int:
        """The last good place, up to token `high`, to end a chunk that begins with `first`.

        White space counts in the chunk's second half and after `news`.
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
        """The token with which the chunk after the one from `first` to `last` begins."""
        low = max(last - self.overlap, first + 1)
        at, middle = tokens.start_of(low), tokens.start_of(low + (last - low) // 2)
        space = _first_space(self.text[at - 1 : middle])
        if space is not None:
            found = tokens.index(at - 1 + space, low, last)
            if self._is_whole(tokens, found):
                return found
        return next((index for index in range(low, last) if self._is_whole(tokens, index)), last)

    def _is_whole(self, tokens: _Tokens, index: int) -> bool:
        """Whether a token begins a character as readers see them."""
        return tokens.is_clean(index) and is_whole(self.text, tokens.start_of(index))


def _last_space(text: str) -> int | None:
    """Where the last white space is."""
    if not text or text[-1].isspace():
        return len(text) - 1 if text else None
    at = len(text) - len(text.rsplit(None, 1)[-1]) - 1
    return at if at >= 0 else None


def _first_space(text: str) -> int | None:
    """Where the first white space is."""
    if not text or text[0].isspace():
        return 0 if text else None
    at = len(text.split(None, 1)[0])
    return at if at < len(text) else None
