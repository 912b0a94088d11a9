"""Whether packed rows see each other: tried on the base model itself, on the device that trains.

Whether a model keeps packed rows apart depends on its family (gpt-oss and Falcon build their mask without
position ids), on the attention that is installed and on the device. One pair of rows, packed as TRL packs
them and apart, answers all of it.
"""

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from ft_assets.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_TOKENS = 32
_ADVICE = "set training.packing to false or null"
_EXACT, _ROUNDED = 1e-3, 0.05
"""The difference allowed, as a share of the spread of the logits: in float32, and in half precision, where
rounding alone makes 0.01. Rows that see each other differ by about 1 at the first token."""


def check_packing(model: "PreTrainedModel", rows: Iterable[dict[str, list[int]]]) -> None:
    """Packs the beginnings of the first two rows; a single one is packed with itself.

    Raises UserError if the model does not keep them apart.
    """
    import torch

    texts = [row["input_ids"][:_TOKENS] for row in islice(rows, 2)]
    first, second = texts[0], texts[-1]
    was_training = model.training
    model.train(False)
    try:
        with torch.no_grad():
            change = _difference(model, first, second)
    except Exception as error:  # whatever a family raises for what it cannot pack
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"training.packing: the base model cannot be given packed rows ({said[0]}): {_ADVICE}"
        ) from error
    finally:
        model.train(was_training)
    if not change <= (_EXACT if model.dtype == torch.float32 else _ROUNDED):
        raise UserError(
            "training.packing: packed rows would learn from each other: beside another row the logits of a "
            f"row change by {change:.0%} of their spread (base model: {model.config.model_type}, attention: "
            f"{model.config._attn_implementation}): {_ADVICE}"
        )


def _difference(model: "PreTrainedModel", first: list[int], second: list[int]) -> float:
    """How much the logits of two rows differ, packed and apart, at the token where it is most."""
    import torch

    together = _logits(model, [first, second])
    apart = torch.cat([_logits(model, [first]), _logits(model, [second])])
    spread = apart.std(dim=-1)
    return float(((together - apart).pow(2).mean(dim=-1).sqrt() / spread).max())


def _logits(model: "PreTrainedModel", rows: list[list[int]]) -> "torch.Tensor":
    """The logits of rows in one packed batch, as TRL's collator makes it."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    ids = [number for row in rows for number in row]
    collator = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    packed = {"input_ids": ids, "labels": ids, "seq_lengths": [len(row) for row in rows]}
    batch: dict[str, Any] = collator([packed])
    del batch["labels"]
    inputs = {
        key: value.to(model.device) if hasattr(value, "to") else value
        for key, value in batch.items()
    }
    return model(**inputs, use_cache=False).logits[0].float()  # type: ignore[no-any-return]
