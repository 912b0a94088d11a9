"""From rendered rows to token ids and labels."""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from ft_assets.records import Example, Segment
from ft_assets.tables import batched, read_table

if TYPE_CHECKING:
    from ft_assets.stages.models.light_tokenizer import AnyTokenizer

_Encode = Callable[[list[str]], list[list[int]]]

IGNORED = -100
"""The label of a token that no loss is taken on, as PyTorch's cross entropy has it."""


def tokenized_rows(path: Path, tokenizer: "AnyTokenizer") -> Iterator[dict[str, list[int]]]:
    """The rows of `path` as `input_ids` and `labels`, with a loss on the trained segments only."""
    for batch in batched(read_table(path, Example), 1_000):
        for row, ids in zip(
            batch, tokenize(tokenizer, [row.segments for row in batch]), strict=True
        ):
            labels: list[int] = []
            for piece, some in zip(row.segments, ids, strict=True):
                labels += some if piece["trained"] else [IGNORED] * len(some)
            yield {"input_ids": [token for some in ids for token in some], "labels": labels}


def tokenize(tokenizer: "AnyTokenizer", rows: Sequence[Sequence[Segment]]) -> list[list[list[int]]]:
    """The token ids of each segment of each row.

    What an answer follows is encoded without it, as at inference there is no answer yet. Special tokens
    stand in the text already, so none is added.
    """
    encode = _encode(tokenizer)
    texts = [piece["text"] for row in rows for piece in row]
    if not texts:
        return [[] for _ in rows]
    ids = iter(encode(texts) if _joins(encode) else _behind(encode, rows))
    return [[next(ids) for _ in row] for row in rows]


def are_asked_so(
    tokenizer: "AnyTokenizer", rows: Sequence[Sequence[Segment]], ids: Sequence[list[list[int]]]
) -> list[bool]:
    """For each row with its segments' `ids`, whether they are what the model is asked with at each answer.

    The text before an answer is then encoded in one piece. That can differ after the first one: an answer
    that begins with a line break may join the line break that it follows.
    """
    # Each earlier answer ends with the stop token, which text never joins: so one look at the text before
    # the last answer tells for all.
    before = [_before_last(row) for row in rows]
    texts = ["".join(piece["text"] for piece in some) for some in before]
    asked = iter(_encode(tokenizer)([text for text in texts if text]) if any(texts) else ())
    return [
        not some or next(asked) == [token for each in of[: len(some)] for token in each]
        for some, of in zip(before, ids, strict=True)
    ]


def _before_last(row: Sequence[Segment]) -> Sequence[Segment]:
    """The segments before the last answer of a row; none if it is the only one."""
    places = [place for place, piece in enumerate(row) if piece["trained"]]
    return row[: places[-1]] if len(places) > 1 else []


def answer_by_answer(row: Sequence[Segment]) -> list[list[Segment]]:
    """A row for each answer of a row, with all that stands before it in one untrained segment."""
    starts = accumulate((piece["text"] for piece in row), initial="")
    return [
        [{"text": before, "trained": False}, piece] if before else [piece]
        for piece, before in zip(row, starts, strict=False)
        if piece["trained"]
    ]


def _encode(tokenizer: "AnyTokenizer") -> _Encode:
    def encode(texts: list[str]) -> list[list[int]]:
        options = {"add_special_tokens": False, "return_attention_mask": False}
        return tokenizer(texts, **options)["input_ids"]  # type: ignore[no-any-return]

    return encode


def _joins(encode: _Encode) -> bool:
    """Whether texts encoded apart give the ids that they give together.

    SentencePiece vocabularies put a space before whatever they encode, so there an answer is encoded
    behind what it follows.
    """
    together, first, second = encode(["\na", "\n", "a"])
    return together == first + second


def _behind(encode: _Encode, rows: Sequence[Sequence[Segment]]) -> Iterator[list[int]]:
    """The ids of each segment, those of an answer encoded behind the segment before it."""
    pieces = [piece for row in rows for piece in row]
    before = [text for row in rows for text in ("", *(piece["text"] for piece in row[:-1]))]
    alone = encode([piece["text"] for piece in pieces])
    whole = encode([text + piece["text"] for text, piece in zip(before, pieces, strict=True)])
    prompt: list[int] = []
    for piece, own, together in zip(pieces, alone, whole, strict=True):
        follows = piece["trained"] and together[: len(prompt)] == prompt
        yield together[len(prompt) :] if follows else own
        prompt = own
