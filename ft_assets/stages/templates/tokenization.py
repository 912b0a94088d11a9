"""From rendered rows to token ids and labels."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ft_assets.records import Example
from ft_assets.stages.templates.prompt_templates import Rendered
from ft_assets.tables import batched, read_table

if TYPE_CHECKING:
    from ft_assets.stages.models.light_tokenizer import AnyTokenizer


IGNORED = -100
"""The label of a token that no loss is taken on, as PyTorch's cross entropy has it."""


def tokenized_rows(path: Path, tokenizer: "AnyTokenizer") -> Iterator[dict[str, list[int]]]:
    """The rows of `path` as `input_ids` and `labels`, with a loss on the completion only."""
    for batch in batched(read_table(path, Example), 1_000):
        rendered = [Rendered(row.prompt, row.completion) for row in batch]
        for prompt, completion in tokenize(tokenizer, rendered):
            labels = [IGNORED] * len(prompt) + completion
            yield {"input_ids": prompt + completion, "labels": labels}


def tokenize(
    tokenizer: "AnyTokenizer", rows: Sequence[Rendered]
) -> list[tuple[list[int], list[int]]]:
    """The token ids of each row's prompt and of its completion.

    The prompt is encoded by itself, as at inference there is no completion yet. Special tokens
    stand in the text already, so none is added.
    """
    if not rows:
        return []

    def encode(texts: list[str]) -> list[list[int]]:
        options = {"add_special_tokens": False, "return_attention_mask": False}
        return tokenizer(texts, **options)["input_ids"]  # type: ignore[no-any-return]

    prompts = encode([row.prompt for row in rows])
    if _joins(encode):
        completions = encode([row.completion for row in rows])
    else:
        wholes = encode([row.prompt + row.completion for row in rows])
        completions = [
            whole[len(prompt) :] if whole[: len(prompt)] == prompt else encode([row.completion])[0]
            for row, prompt, whole in zip(rows, prompts, wholes, strict=True)
        ]
    return list(zip(prompts, completions, strict=True))


def _joins(encode: Callable[[list[str]], list[list[int]]]) -> bool:
    """Whether texts encoded apart give the ids that they give together.

    SentencePiece vocabularies put a space before whatever they encode, so there a completion is
    encoded behind its prompt.
    """
    together, first, second = encode(["\na", "\n", "a"])
    return together == first + second
