"""Greedy answers of a model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ft_assets.stages.models.head import scoring_apart

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BATCH = 32
"""Prompts answered at once, at most: on a CPU 24 take 60% of the time of three times 8."""
_BATCH_TOKENS = 4_096
"""The most padded tokens in a batch, answers included: they bound memory."""


@dataclass(frozen=True)
class Answer:
    """A prompt's token ids, those of the answer, and its text without special tokens.

    `stopped` says whether the model ended the answer; if not, it was cut off. The ids hold the stop token.
    """

    prompt_ids: list[int]
    ids: list[int]
    text: str
    stopped: bool


def answers(
    model: "PeftModel | PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    max_new_tokens: int,
) -> Iterator[Answer]:
    """The model's greedy answer to each rendered prompt."""
    import torch

    tokenizer.padding_side = "left"
    pad_with_stop(tokenizer)
    stops = stop_ids(model, tokenizer)
    for batch in _batches(_ids_of(tokenizer, prompts), max_new_tokens):
        inputs = tokenizer.pad({"input_ids": batch}, return_tensors="pt").to(model.device)
        with torch.no_grad(), scoring_apart(model.get_output_embeddings()):
            output = model.generate(  # type: ignore[operator]
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=max_new_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                eos_token_id=stops,
                pad_token_id=tokenizer.pad_token_id,
            )
        width = inputs["input_ids"].shape[1]
        for ids, row in zip(batch, output.tolist(), strict=True):
            own, stopped = _until_stop(row[width:], stops)
            text = str(tokenizer.decode(own, skip_special_tokens=True)).strip()
            yield Answer(ids, own, text, stopped)


def pad_with_stop(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Has the stop token pad if there is no padding token; masks and labels keep the two apart."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token


def _ids_of(tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str]) -> list[list[int]]:
    return tokenizer(list(prompts), add_special_tokens=False)["input_ids"] if prompts else []


def _batches(prompts: list[list[int]], max_new_tokens: int) -> Iterator[list[list[int]]]:
    """Neighbouring prompts together, as many as the bounds allow with the answers beside them."""
    batch: list[list[int]] = []
    width = 0
    for prompt in prompts:
        width = max(width, len(prompt) + max_new_tokens)
        if batch and (len(batch) == _BATCH or (len(batch) + 1) * width > _BATCH_TOKENS):
            yield batch
            batch, width = [], len(prompt) + max_new_tokens
        batch.append(prompt)
    if batch:
        yield batch


def _until_stop(ids: list[int], stops: Sequence[int]) -> tuple[list[int], bool]:
    """The ids up to the first stop token, without the padding of a batch's shorter answers."""
    for place, token in enumerate(ids):
        if token in stops:
            return ids[: place + 1], True
    return ids, False


def stop_ids(
    model: "PeftModel | PreTrainedModel", tokenizer: "PreTrainedTokenizerBase"
) -> list[int]:
    """The tokens that end an answer: the tokenizer's, and those of the checkpoint's generation config.

    A family may have several: Gemma's answers end with `<end_of_turn>`, its texts with `<eos>`.
    """
    known = model.generation_config.eos_token_id
    of_model = known if isinstance(known, list) else [known]
    ids = {tokenizer.eos_token_id, *of_model} - {None}
    return sorted(int(each) for each in ids)
