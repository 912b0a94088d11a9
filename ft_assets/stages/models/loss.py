"""The loss of a model on rows, without gradients: the same number whatever the batches."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ft_assets.stages.models.head import scoring_only
from ft_assets.stages.templates.tokenization import IGNORED

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

Row = dict[str, list[int]]
"""A row's `input_ids` and `labels`, as `tokenized_rows` yields them."""
_BATCH_TOKENS = 2_048
"""The most padded tokens in a batch."""
_SCORED = 1_024
"""Tokens whose logits are in memory at once, because these take most of it."""


def mean_loss(model: "PeftModel | PreTrainedModel", rows: Iterable[Row]) -> float:
    """The mean loss per trained token of the rows, in nats."""
    import torch

    total, count = 0.0, 0
    head = model.get_output_embeddings()
    limit = getattr(model.config, "max_position_embeddings", None)
    for batch in _by_tokens(sorted(rows, key=lambda row: len(row["input_ids"]))):
        ids, mask, labels = _padded(batch, limit)
        inputs = {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device)}
        trained = (labels[:, 1:] != IGNORED).flatten().nonzero().flatten()
        for places in torch.split(trained, _SCORED):
            targets = labels[:, 1:].flatten()[places].to(model.device)
            # A long row is run once for each piece of it: its logits together may not fit.
            with torch.no_grad(), scoring_only(head, places):
                logits = model(**inputs, use_cache=False).logits[0].float()
            total += float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
            count += len(places)
    return total / count


def _padded(
    batch: list[Row], limit: int | None
) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """The ids, the mask and the labels of rows, sorted by length, cut to what the model can read."""
    import torch

    width = min(len(batch[-1]["input_ids"]), limit or 1 << 30)
    ids = torch.zeros((len(batch), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORED)
    for index, row in enumerate(batch):
        size = min(len(row["input_ids"]), width)
        ids[index, :size] = torch.tensor(row["input_ids"][:size])
        labels[index, :size] = torch.tensor(row["labels"][:size])
        mask[index, :size] = 1
    return ids, mask, labels


def _by_tokens(rows: list[Row]) -> Iterator[list[Row]]:
    """Groups rows, sorted by length, so that a padded batch has at most `_BATCH_TOKENS` tokens."""
    batch: list[Row] = []
    for row in rows:
        if batch and (len(batch) + 1) * len(row["input_ids"]) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
