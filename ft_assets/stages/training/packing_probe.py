"""Whether packed rows see each other: tried on the base model itself, on the device that trains.

Whether a model keeps packed rows apart depends on its family (gpt-oss and Falcon build their mask without
position ids), on the attention that is installed and on the device. One pair of rows, packed as TRL packs
them and apart, answers all of it.
"""

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from ft_assets.errors import UserError
from ft_assets.stages.models.memory import is_out_of_memory

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_TOKENS = 32
_ADVICE = "set training.packing to false or null"
_ALLOWED = {"float32": (1e-3, 1e-3)}
_ROUNDED = (0.01, 0.05)
"""The changes allowed, as shares of the spread of the logits: if only the other row changes, and against the
row apart. In half precision, rounding alone makes 0.01 of the second if kernels differ. Rows that see each
other change by 0.02 to 1."""


def check_packing(model: "PreTrainedModel", rows: Iterable[dict[str, list[int]]]) -> None:
    """Packs the beginnings of the first two rows; a single one is packed with itself.

    Raises UserError if the model does not keep them apart.
    """
    try:
        change = _largest_change(model, rows)
    except Exception as error:  # whatever a family raises for what it cannot pack
        if is_out_of_memory(error):
            raise
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"training.packing: the base model cannot be given packed rows ({said[0]}): {_ADVICE}"
        ) from error
    if change is not None:
        raise UserError(
            "training.packing: packed rows would learn from each other: beside another row the logits of a "
            f"row change by {change:.1%} of their spread (base model: {model.config.model_type}, "
            f"attention: {model.config._attn_implementation}): {_ADVICE}"
        )


def keeps_apart(model: "PreTrainedModel", rows: Iterable[dict[str, list[int]]]) -> bool:
    """Whether the model keeps rows of one sequence apart, tried as in `check_packing`."""
    try:
        return _largest_change(model, rows) is None
    except Exception as error:  # whatever a family raises for what it cannot pack
        if is_out_of_memory(error):
            raise
        return False


def _largest_change(model: "PreTrainedModel", rows: Iterable[dict[str, list[int]]]) -> float | None:
    """The largest change of a row's logits by the row beside it, as a share of their spread; None if it is
    no more than rounding."""
    import torch

    texts = [row["input_ids"][:_TOKENS] for row in islice(rows, 2)]
    was_training = model.training
    model.train(False)
    try:
        with torch.no_grad():
            changes = beside, apart = _changes(model, texts[0], texts[-1])
    finally:
        model.train(was_training)
    limits = _ALLOWED.get(str(model.dtype).removeprefix("torch."), _ROUNDED)
    is_apart = beside <= limits[0] and apart <= limits[1]  # false of NaN too
    return None if is_apart else max(changes)


def _changes(model: "PreTrainedModel", first: list[int], second: list[int]) -> tuple[float, float]:
    """How much the logits of the second row change if it is beside another row, and if it is apart."""
    size = len(second)
    beside, other = (
        _logits(model, [row, second])[-size:] for row in (first, first[:1] * len(first))
    )
    return _change(beside, other), _change(beside, _logits(model, [second]))


def _change(one: "torch.Tensor", other: "torch.Tensor") -> float:
    """How much logits differ, at the token where it is most, as a share of their spread."""
    return float(((one - other).pow(2).mean(dim=-1).sqrt() / other.std(dim=-1)).max())


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
