"""Perplexity, of a loss and of a text."""

import math
from typing import TYPE_CHECKING

from ft_assets.stages.models.loss import mean_loss

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_WINDOW = 512
"""Tokens of a text that are seen together."""


def perplexity(loss: float) -> float:
    """The perplexity that a mean loss in nats stands for; finite whatever the loss."""
    return math.exp(min(loss, 700.0))


def text_perplexity(
    model: "PeftModel | PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", text: str
) -> float:
    """The perplexity of plain text, in windows of 512 tokens."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    windows = [ids[start : start + _WINDOW] for start in range(0, len(ids), _WINDOW)]
    rows = [{"input_ids": each, "labels": each} for each in windows]
    return perplexity(mean_loss(model, rows))
