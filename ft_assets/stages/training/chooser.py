"""Training settings that are null, chosen from the model and the data.

What teaches a small corpus is the number of updates, not of tokens: small batches of unpacked rows, 200 to
300 updates, few passes. docs/benchmarks.md has the measurements behind the constants.
"""

from dataclasses import dataclass
from pathlib import Path

from ft_assets.config import LoraSettings, TrainingConfig
from ft_assets.manifest import Settings

_UPDATES = 250
_ROWS_BY_BATCH = 64
"""Rows for each row of the batch: a larger corpus takes larger batches, so that it is still seen twice."""
_MAX_BATCH = 8
_MAX_BATCH_TOKENS = 2_048
"""The longest row times the batch: it bounds memory."""
_MIN_EPOCHS, _MAX_EPOCHS = 2, 8
_MAX_TEXT_EPOCHS = 4
"""Text without pairs teaches style, hardly facts; many passes over a few texts ruin the model (16 over 6
rows: perplexity on other text 239 instead of 21)."""
_REHEARSAL = 0.2
"""The share of rehearsed rows: it costs no facts and keeps about four more of twenty general answers."""
_SMALL_MODEL = 4_000_000_000
_RATES = (1e-3, 3e-4)
"""The learning rate of LoRA up to that many parameters, and above: "LoRA Without Regret" (Thinking
Machines, 2025) found about ten times the rate of full fine-tuning, lower for larger models."""


@dataclass(frozen=True)
class Data:
    """What of the data decides: the training rows, the longest of them in tokens, and whether all of them
    are plain text."""

    rows: int
    longest: int
    text_only: bool


@dataclass(frozen=True)
class Resolved:
    """Settings without nulls; `chosen` are those that were null, by dotted key."""

    training: TrainingConfig
    lora: LoraSettings
    chosen: Settings


def choose(
    training: TrainingConfig,
    lora: LoraSettings,
    data: Data,
    parameters: int,
    precision: str | None = None,
) -> Resolved:
    """The settings to train a model of so many parameters with: those that are set stay as they are.

    `precision` is what `auto` is on the machine that trains; without it `auto` stays.
    """
    batch = training.per_device_train_batch_size or _batch(data)
    wanted: Settings = {
        "learning_rate": _RATES[parameters > _SMALL_MODEL],
        "num_train_epochs": _epochs(data, batch * training.gradient_accumulation_steps),
        "per_device_train_batch_size": batch,
        "packing": False,
        "rehearsal": _REHEARSAL,
    }
    if training.max_steps:
        del wanted["num_train_epochs"]
    chosen = {key: value for key, value in wanted.items() if getattr(training, key) is None}
    if precision and training.precision == "auto":
        chosen["precision"] = precision
    dropout: Settings = {"lora_dropout": 0.0} if lora.lora_dropout is None else {}
    return Resolved(
        training.model_copy(update=chosen),
        lora.model_copy(update=dropout),
        {
            **{f"training.{key}": value for key, value in chosen.items()},
            **{f"model.lora.{key}": value for key, value in dropout.items()},
        },
    )


def _batch(data: Data) -> int:
    """The largest power of two within the bounds."""
    batch = 1
    while 2 * batch <= min(_MAX_BATCH, data.rows / _ROWS_BY_BATCH):
        batch *= 2
    while batch > 1 and batch * data.longest > _MAX_BATCH_TOKENS:
        batch //= 2
    return batch


def _epochs(data: Data, rows_by_update: int) -> float:
    most = _MAX_TEXT_EPOCHS if data.text_only else _MAX_EPOCHS
    wanted = round(_UPDATES * rows_by_update / max(1, data.rows))
    return float(max(_MIN_EPOCHS, min(most, wanted)))


def read_data(dataset: Path) -> Data:
    """What decides, of the dataset in a folder."""
    from ft_assets.tables import read_batches, values

    rows = longest = 0
    text_only = True
    for batch in read_batches(dataset / "train.parquet", ["kind", "tokens"]):
        rows += len(batch)
        longest = max(longest, *values(batch, "tokens")) if len(batch) else longest
        text_only = text_only and set(values(batch, "kind")) <= {"text"}
    return Data(rows, longest, text_only)
