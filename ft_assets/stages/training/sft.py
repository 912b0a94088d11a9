"""Supervised fine-tuning of a LoRA adapter: TRL's SFTTrainer with PEFT."""

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from ft_assets.config import LoraSettings, TrainingConfig
from ft_assets.errors import StageError
from ft_assets.stages.job import Report
from ft_assets.stages.models.base_model import BaseModel
from ft_assets.stages.models.generation import pad_with_stop
from ft_assets.stages.models.tokenizer import save_tokenizer, tokenizer_of
from ft_assets.stages.models.tuned_model import load_model, precision_of
from ft_assets.stages.templates.tokenization import tokenized_rows
from ft_assets.stages.training.checkpoints import Checkpoint, Checkpoints
from ft_assets.stages.training.cpu_loss import cpu_trainer
from ft_assets.stages.training.held_out import held_out_loss, spread
from ft_assets.stages.training.longest_batch import longest_batch
from ft_assets.stages.training.lora import checked_lora
from ft_assets.stages.training.packing_probe import check_packing
from ft_assets.stages.training.progress import KeepPace, progress
from ft_assets.stages.training.rehearsal import (
    Rehearsed,
    read_rehearsed,
    rehearse,
    write_rehearsed,
)
from ft_assets.stages.training.resuming import Interruption, checkpointing, resumable
from ft_assets.tables import count_rows

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import SFTConfig


def load_dataset(
    path: Path,
    tokenizer: "PreTrainedTokenizerBase",
    scratch: Path,
    rehearsed: Sequence[Rehearsed] = (),
) -> "Dataset":
    """The tokenized rows of `path`, and those to rehearse, memory-mapped from disk below `scratch`."""
    from datasets import Dataset, Features, Sequence, Value

    def rows() -> Iterator[dict[str, list[int]]]:
        yield from tokenized_rows(path, tokenizer)
        yield from (each.row() for each in rehearsed)

    ids = Sequence(Value("int32"))
    return Dataset.from_generator(
        rows,
        features=Features({"input_ids": ids, "labels": Sequence(Value("int64"))}),
        # Without a fingerprint of its own the library would pickle the generator to make one.
        fingerprint="rows",
        cache_dir=str(scratch),
    )


def training_arguments(settings: TrainingConfig, folder: Path) -> "SFTConfig":
    """TRL's configuration for the settings under `training`; it writes below `folder`."""
    import torch
    from trl import SFTConfig

    own = settings.model_dump(exclude={"rehearsal"})
    dtype = precision_of(own.pop("precision"))
    # The name since transformers 5.18; the one that everybody knows ends with version 6.
    if "activation_checkpointing" in {field.name for field in fields(SFTConfig)}:
        own["activation_checkpointing"] = own.pop("gradient_checkpointing")
    return SFTConfig(
        output_dir=str(folder),
        bf16=dtype is torch.bfloat16,
        fp16=dtype is torch.float16,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        completion_only_loss=False,  # the labels mask the prompt already
        dataloader_pin_memory=torch.cuda.is_available(),
        data_seed=own["seed"],
        **own,
    )


def train(
    base: BaseModel,
    dataset: Path,
    lora: LoraSettings,
    settings: TrainingConfig,
    output: Path,
    report: Report,
    rehearsals: int = 0,
    checkpoints: Checkpoints | None = None,
    keep: KeepPace | None = None,
) -> list[dict[str, float]]:
    """Trains a LoRA adapter on `train.parquet` in `dataset` and saves it to `output`.

    So many general prompts are rehearsed beside its rows; they are saved too. Resumes from the last of
    `checkpoints`, to the same adapter and history as an uninterrupted training. Ctrl-C is answered at the end of a
    step, with a checkpoint. `keep` is told its pace (`progress.py`).

    Returns the loss history, one entry per step: step, epoch, loss, learning_rate, grad_norm. Some have
    `eval_loss`, the loss on held-out rows after the step; an entry of step 0 has only that.
    Raises StageError if the loss is not a finite number, UserError for unsupported settings.
    """
    report(f"loading the base model {base.base}")
    from trl import SFTTrainer

    tokenizer = tokenizer_of(dataset / "tokenizer")
    model = load_model(base.folder, precision_of(settings.precision))
    if settings.packing:
        check_packing(model, tokenized_rows(dataset / "train.parquet", tokenizer))
    _pad_token(tokenizer, model)
    last = checkpoints.last() if checkpoints else None
    rehearsed = (
        read_rehearsed(last.folder)
        if last
        else rehearse(model, tokenizer, rehearsals, settings.seed, report)
    )
    kind = SFTTrainer if model.device.type == "cuda" else cpu_trainer()
    if checkpoints:
        kind = resumable(kind, checkpoints, lambda folder: write_rehearsed(folder, rehearsed))
    with tempfile.TemporaryDirectory(prefix="ft-assets-trainer-") as scratch:
        report(f"tokenizing {count_rows(dataset / 'train.parquet'):,} rows")
        trainer = kind(
            model=model,
            args=training_arguments(settings, Path(scratch)),
            train_dataset=load_dataset(
                dataset / "train.parquet", tokenizer, Path(scratch), rehearsed
            ),
            processing_class=tokenizer,
            peft_config=checked_lora(model, lora, report),
        )
        trainer.add_callback(longest_batch(trainer, report))
        trainer.add_callback(progress(report, keep))
        if rows := spread(tokenized_rows(dataset / "eval.parquet", tokenizer)):
            trainer.add_callback(held_out_loss(rows, report))
        _run(trainer, checkpoints, last, report)
    history = _history(trainer.state.log_history)
    losses = losses_of(history)
    if not losses or not all(map(math.isfinite, losses)):
        raise StageError(
            "the training loss is not a number: lower training.learning_rate or set "
            "training.precision to fp32"
        )
    trainer.model.save_pretrained(output, safe_serialization=True)
    save_tokenizer(tokenizer, base.folder, output)
    write_rehearsed(output, rehearsed)
    return history


def losses_of(history: list[dict[str, float]]) -> list[float]:
    """The training losses of a history, one for each step."""
    return [entry["loss"] for entry in history if "loss" in entry]


def _run(
    trainer: Any, checkpoints: Checkpoints | None, last: Checkpoint | None, report: Report
) -> None:
    """Trains from the beginning or from the last checkpoint.

    Raises KeyboardInterrupt at the end of the step in which the training was interrupted.
    """
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    if checkpoints is None:
        trainer.train()
        return
    with Interruption(report) as interruption:
        trainer.add_callback(checkpointing(checkpoints, interruption))
        try:
            trainer.train(resume_from_checkpoint=str(last.folder) if last else None)
        except UnpicklingError as error:
            raise StageError(
                f"{last and last.folder}: the checkpoint was changed since it was written, so that it would "
                "run code; it was not run: remove this folder and refresh again"
            ) from error
    if interruption.asked and trainer.state.global_step < trainer.state.max_steps:
        report(f"interrupted after step {trainer.state.global_step}/{trainer.state.max_steps}")
        raise KeyboardInterrupt


def _pad_token(tokenizer: "PreTrainedTokenizerBase", model: "PreTrainedModel") -> None:
    pad_with_stop(tokenizer)
    model.config.pad_token_id = tokenizer.pad_token_id


_HISTORY_KEYS = ("step", "epoch", "loss", "learning_rate", "grad_norm", "eval_loss")


def _history(log: list[dict[str, float]]) -> list[dict[str, float]]:
    """One entry for each step in the trainer's log, with what is known of it."""
    steps: dict[float, dict[str, float]] = {}
    for entry in log:
        if "loss" in entry or "eval_loss" in entry:
            known = steps.setdefault(entry["step"], {})
            known |= {key: entry[key] for key in _HISTORY_KEYS if key in entry}
    return [steps[step] for step in sorted(steps)]
