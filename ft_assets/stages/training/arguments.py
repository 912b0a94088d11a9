"""The settings under `training` as TRL's own configuration."""

import math
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_assets.config import TrainingConfig
from ft_assets.errors import UserError
from ft_assets.stages.models.precision import name_of, precision_of

if TYPE_CHECKING:
    from trl import SFTConfig

_OWN = {
    "rehearsal",
    "report_to",
    "precision",
    "eval_strategy",
    "eval_steps",
    "early_stopping_patience",
    "load_best_model_at_end",
    "warmup_ratio",
    "lr_scheduler_kwargs",
}
"""The settings that this project carries out itself, or spells as TRL once did."""
_LENGTHS = 16
"""In bfloat16 on a CPU batches differ in length by so many tokens: torch prepares its products for each new
length and keeps what it prepared, 0.5 GiB in the demo's training without this."""
_MIN_RATE = 0.1
"""The rate at which `cosine_with_min_lr` ends, times the learning rate."""
_DECAY_SHARE = 0.1
"""The share of the steps in which `warmup_stable_decay` lowers the rate, as its authors do (MiniCPM, 2024)."""


def training_arguments(
    settings: TrainingConfig, folder: Path, *, padding_free: bool = False
) -> "SFTConfig":
    """TRL's configuration; it writes below `folder`. A setting that is null is left to TRL.

    With `padding_free` the rows of a batch are one sequence instead of padded ones. What depends on the number of steps is missing: see `schedule`.
    """
    import torch
    from trl import SFTConfig

    own = settings.model_dump(exclude=_OWN, exclude_none=True)
    own["data_seed"] = settings.seed
    if padding_free:
        own |= {"padding_free": True, "max_length": None}  # the rows are cut already
    if settings.warmup_ratio is not None:
        own["warmup_steps"] = settings.warmup_ratio  # below 1 it is a share of the steps
    if settings.optim == "adamw_torch":
        own["optim"] = "adamw_torch_fused"  # the same method in fewer passes over the weights
    # The name since transformers 5.18; the one that everybody knows ends with version 6.
    if "activation_checkpointing" in {field.name for field in fields(SFTConfig)}:
        own["activation_checkpointing"] = own.pop("gradient_checkpointing")
    on_gpu = torch.cuda.is_available()
    precision = name_of(precision_of(settings.precision))
    return SFTConfig(
        output_dir=str(folder),
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=not on_gpu,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        completion_only_loss=False,  # the labels mask the prompt already
        dataloader_pin_memory=on_gpu,
        pad_to_multiple_of=_LENGTHS if precision == "bf16" and not on_gpu else None,
        **own,
    )


def schedule(settings: TrainingConfig, steps: int) -> dict[str, Any] | None:
    """`lr_scheduler_kwargs` for a training of so many steps."""
    own: dict[str, Any] = settings.lr_scheduler_kwargs.model_dump(exclude_none=True)
    if settings.lr_scheduler_type == "cosine_with_min_lr" and not own:
        own = {"min_lr_rate": _MIN_RATE}
    if settings.lr_scheduler_type == "warmup_stable_decay":
        own.setdefault("num_decay_steps", max(1, round(steps * _DECAY_SHARE)))
    return own or None


def steps_of(settings: TrainingConfig, rows: int, processes: int = 1) -> int:
    """How many updates a training on so many unpacked rows makes, in processes with these settings each.

    As transformers counts them: the last batch of an epoch may be smaller, and so may its last update.
    """
    if settings.max_steps:
        return settings.max_steps
    batches = math.ceil(rows / ((settings.per_device_train_batch_size or 1) * processes))
    updates = max(1, math.ceil(batches / settings.gradient_accumulation_steps))
    return math.ceil((settings.num_train_epochs or 1) * updates)


def check_steps(settings: TrainingConfig, steps: int) -> None:
    """Raises UserError if a setting that counts steps does not fit a training of so many."""
    decay = settings.lr_scheduler_kwargs.num_decay_steps or 0
    warmup = settings.warmup_steps
    for key, value, wrong, effect in (
        ("warmup_steps", warmup, warmup >= steps, "the learning rate would never be reached"),
        (
            "eval_steps",
            settings.eval_steps,
            (settings.eval_steps or 0) > steps,
            "it would never come",
        ),
        (
            "lr_scheduler_kwargs.num_decay_steps",
            decay,
            decay > 0 and warmup + decay > steps,
            "with warmup_steps it is longer than the training",
        ),
    ):
        if value and wrong:
            raise UserError(
                f"training.{key}: {value:,} of {steps:,} steps: {effect}; lower it, or train longer"
            )
