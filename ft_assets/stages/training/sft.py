"""Supervised fine-tuning of a LoRA adapter: TRL's SFTTrainer with PEFT."""

import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from ft_assets.config import ModelConfig, TrainingConfig
from ft_assets.errors import StageError
from ft_assets.stages.job import Report
from ft_assets.stages.models.base_model import BaseModel
from ft_assets.stages.models.generation import pad_with_stop
from ft_assets.stages.models.precision import precision_of
from ft_assets.stages.models.tokenizer import save_tokenizer, tokenizer_of
from ft_assets.stages.models.tuned_model import load_model
from ft_assets.stages.templates.tokenization import tokenized_rows
from ft_assets.stages.training.arguments import check_steps, schedule, steps_of, training_arguments
from ft_assets.stages.training.checkpoints import Checkpoint, Checkpoints
from ft_assets.stages.training.cpu_attention import attend_by_rows
from ft_assets.stages.training.cpu_lora import fused_lora
from ft_assets.stages.training.cpu_loss import cpu_trainer
from ft_assets.stages.training.held_out import Best, held_out_loss, held_out_rows
from ft_assets.stages.training.longest_batch import longest_batch
from ft_assets.stages.training.lora import checked_lora
from ft_assets.stages.training.packing_probe import check_packing, keeps_apart
from ft_assets.stages.training.progress import KeepPace, progress
from ft_assets.stages.training.rehearsal import (
    Rehearsed,
    read_rehearsed,
    rehearse,
    write_rehearsed,
)
from ft_assets.stages.training.resuming import checkpointing, resumable
from ft_assets.stages.training.run_log import RunLog, logging
from ft_assets.stages.training.shares import shared
from ft_assets.stages.training.team import ALONE, Team
from ft_assets.stages.training.trained import trained_weights
from ft_assets.tables import count_rows

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


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


def train(
    base: BaseModel,
    dataset: Path,
    model: ModelConfig,
    settings: TrainingConfig,
    output: Path,
    report: Report,
    rehearsals: int = 0,
    checkpoints: Checkpoints | None = None,
    log: RunLog | None = None,
    team: Team = ALONE,
    keep: KeepPace | None = None,
) -> list[dict[str, float]]:
    """Trains a LoRA adapter on `train.parquet` in `dataset` and saves it to `output`.

    So many general prompts are rehearsed beside its rows; they are saved too. Resumes from the last of
    `checkpoints`, to the same adapter and history as an uninterrupted training. Ctrl-C is answered at the end of a
    step, with a checkpoint. `keep` is told its pace (`progress.py`).

    What the trainer measures goes to `log` too. With a `team` of several processes each of them calls this; the
    first does everything but the training alone.

    Returns the loss history, one entry per step: step, epoch, loss, learning_rate, grad_norm. Some have
    `eval_loss`, the loss on held-out rows after the step; an entry of step 0 has only that.
    Raises StageError if the loss is not a finite number, UserError for unsupported settings.
    """
    tokenizer = tokenizer_of(dataset / "tokenizer")
    held_out = held_out_rows(tokenized_rows(dataset / "eval.parquet", tokenizer), settings)
    loaded = _loaded(base, dataset, model, settings, tokenizer, report)
    last = team.share(checkpoints.last) if checkpoints else None
    rehearsed = (
        read_rehearsed(last.folder)
        if last
        else team.share(lambda: rehearse(loaded, tokenizer, rehearsals, settings.seed, report))
    )
    best = Best(last.folder if last else None)

    def add_to(folder: Path) -> None:
        write_rehearsed(folder, rehearsed)
        best.write(folder)

    kind = _kind(loaded)
    if checkpoints:
        kind = resumable(kind, checkpoints, add_to, team)
    with tempfile.TemporaryDirectory(prefix="ft-assets-trainer-") as scratch:
        report(f"tokenizing {count_rows(dataset / 'train.parquet'):,} rows")
        apart = _without_padding(loaded, dataset, settings, tokenizer)
        trainer = (shared(kind) if team.size > 1 else kind)(
            model=loaded,
            args=training_arguments(settings, Path(scratch), padding_free=apart),
            train_dataset=load_dataset(
                dataset / "train.parquet", tokenizer, Path(scratch), rehearsed
            ),
            processing_class=tokenizer,
            peft_config=checked_lora(loaded, model.lora, report),
        )
        _ready(trainer, settings, team, report)
        trainer.add_callback(progress(report, keep))
        # Only the first process of several evaluates, unless all must know when to stop.
        if held_out and (team.is_first or settings.eval_strategy):
            trainer.add_callback(held_out_loss(held_out, settings, best, report))
        if log:
            trainer.add_callback(logging(log))
        with fused_lora(trainer.model):
            _run(trainer, checkpoints, last, report, team)
    best.put_back(trainer.model)
    history = _history(trainer.state.log_history)
    _check_losses(history)
    if team.is_first:
        trainer.model.save_pretrained(output, safe_serialization=True)
        save_tokenizer(tokenizer, base.folder, output)
        write_rehearsed(output, rehearsed)
    return history


def _loaded(
    base: BaseModel,
    dataset: Path,
    model: ModelConfig,
    settings: TrainingConfig,
    tokenizer: "PreTrainedTokenizerBase",
    report: Report,
) -> "PreTrainedModel":
    """The base model, ready to be trained as the settings say."""
    bits = " in four bits" if model.load_in_4bit else ""
    report(f"loading the base model {base.base}{bits}")
    loaded = load_model(
        base.folder,
        precision_of(settings.precision),
        four_bit=model.load_in_4bit,
        attention=model.attn_implementation,
    )
    attend_by_rows(loaded)
    if settings.packing:
        check_packing(loaded, tokenized_rows(dataset / "train.parquet", tokenizer))
    pad_with_stop(tokenizer)
    loaded.config.pad_token_id = tokenizer.pad_token_id
    return loaded


def _without_padding(
    model: "PreTrainedModel",
    dataset: Path,
    settings: TrainingConfig,
    tokenizer: "PreTrainedTokenizerBase",
) -> bool:
    """Whether the rows of a batch can be one sequence. On a CPU it saves what padding would cost, an eighth
    of the tokens of the demo; without attention for several lengths it saves a GPU nothing."""
    if model.device.type != "cpu" or settings.packing or settings.per_device_train_batch_size == 1:
        return False
    return keeps_apart(model, tokenized_rows(dataset / "train.parquet", tokenizer))


def _kind(model: "PreTrainedModel") -> type:
    """The trainer class for the device that the model is on."""
    from trl import SFTTrainer

    return SFTTrainer if model.device.type == "cuda" else cpu_trainer()


def _ready(trainer: Any, settings: TrainingConfig, team: Team, report: Report) -> None:
    """Completes a trainer whose rows, packed or not, are known now."""
    import torch

    rows = len(trainer.train_dataset) - (team.size > 1)  # the one that fills up steps is no row
    steps = steps_of(settings, rows, team.size)
    check_steps(settings, steps)
    trainer.args.lr_scheduler_kwargs = schedule(settings, steps)
    for _, weight in trained_weights(trainer.model):
        weight.data = weight.data.to(torch.float32)  # TRL rounds them beside a base in four bits
    trainer.add_callback(longest_batch(trainer, report))


def _check_losses(history: list[dict[str, float]]) -> None:
    losses = losses_of(history)
    if not losses or not all(map(math.isfinite, losses)):
        raise StageError(
            "the training loss is not a number: lower training.learning_rate or set "
            "training.precision to fp32"
        )


def losses_of(history: list[dict[str, float]]) -> list[float]:
    """The training losses of a history, one for each step."""
    return [entry["loss"] for entry in history if "loss" in entry]


def _run(
    trainer: Any,
    checkpoints: Checkpoints | None,
    last: Checkpoint | None,
    report: Report,
    team: Team,
) -> None:
    """Trains from the beginning or from the last checkpoint.

    Raises KeyboardInterrupt at the end of the step in which the training was interrupted.
    """
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    if checkpoints is None:
        trainer.train()
        return
    with team.interruption(report) as interruption:
        trainer.add_callback(checkpointing(checkpoints, interruption, team))
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


_HISTORY_KEYS = ("step", "epoch", "loss", "learning_rate", "grad_norm", "eval_loss")


def _history(log: list[dict[str, float]]) -> list[dict[str, float]]:
    """One entry for each step in the trainer's log, with what is known of it."""
    steps: dict[float, dict[str, float]] = {}
    for entry in log:
        if "loss" in entry or "eval_loss" in entry:
            known = steps.setdefault(entry["step"], {})
            known |= {key: entry[key] for key in _HISTORY_KEYS if key in entry}
    return [steps[step] for step in sorted(steps)]
