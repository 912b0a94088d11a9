"""Supervised fine-tuning of a LoRA adapter: TRL's SFTTrainer with PEFT."""

import math
import tempfile
import time
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from ft_assets.config import ATTENTION_MODULES, LoraSettings, TrainingConfig
from ft_assets.errors import StageError, UserError
from ft_assets.stages.job import Report
from ft_assets.stages.models.base_model import BaseModel
from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.stages.models.tuned_model import load_model, precision_of
from ft_assets.stages.progress import Throttled
from ft_assets.stages.templates.tokenization import tokenized_rows
from ft_assets.stages.training.checkpoints import Checkpoints
from ft_assets.stages.training.cpu_loss import cpu_trainer
from ft_assets.stages.training.resuming import Interruption, checkpointing, resumable
from ft_assets.stages.words import time_of
from ft_assets.tables import read_batches

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import SFTConfig


def configure_lora(lora: LoraSettings) -> "LoraConfig":
    """PEFT's configuration for the settings under `model.lora`."""
    from peft import LoraConfig

    modules = lora.target_modules
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=ATTENTION_MODULES if modules == "attention" else modules,
        task_type="CAUSAL_LM",
    )


def load_dataset(path: Path, tokenizer: "PreTrainedTokenizerBase", scratch: Path) -> "Dataset":
    """The tokenized rows of `path`, memory-mapped from disk below `scratch`."""
    from datasets import Dataset, Features, Sequence, Value

    ids = Sequence(Value("int32"))
    return Dataset.from_generator(
        tokenized_rows,
        features=Features({"input_ids": ids, "labels": Sequence(Value("int64"))}),
        gen_kwargs={"path": path, "tokenizer": tokenizer},
        cache_dir=str(scratch),
    )


def training_arguments(settings: TrainingConfig, folder: Path) -> "SFTConfig":
    """TRL's configuration for the settings under `training`; it writes below `folder`."""
    import torch
    from trl import SFTConfig

    own = settings.model_dump()
    dtype = precision_of(own.pop("precision"))
    # The name in transformers 5; the one that everybody knows ends with version 6.
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
    checkpoints: Checkpoints | None = None,
) -> list[dict[str, float]]:
    """Trains a LoRA adapter on `train.parquet` in `dataset` and saves it to `output`.

    Goes on from the last of `checkpoints`, to the same adapter and history as without a break. Ctrl-C
    is answered at the end of a step, with a checkpoint.

    Returns the loss history, one entry per step: step, epoch, loss, learning_rate, grad_norm.
    Raises StageError if the loss is not a finite number, UserError for unsupported settings.
    """
    report(f"loading the base model {base.base}")
    from trl import SFTTrainer

    _refuse_contamination(settings)
    tokenizer = tokenizer_of(dataset / "tokenizer")
    model = load_model(base.folder, precision_of(settings.precision))
    _pad_token(tokenizer, model)
    kind = SFTTrainer if model.device.type == "cuda" else cpu_trainer()
    with tempfile.TemporaryDirectory(prefix="ft-assets-trainer-") as scratch:
        report(f"tokenizing {_rows(dataset / 'train.parquet'):,} rows")
        trainer = (resumable(kind, checkpoints) if checkpoints else kind)(
            model=model,
            args=training_arguments(settings, Path(scratch)),
            train_dataset=load_dataset(dataset / "train.parquet", tokenizer, Path(scratch)),
            processing_class=tokenizer,
            peft_config=_checked_lora(model, lora),
        )
        _run(trainer, checkpoints, report)
    history = [_entry(entry) for entry in trainer.state.log_history if "loss" in entry]
    if not history or not all(math.isfinite(entry["loss"]) for entry in history):
        raise StageError(
            "the training loss is not a number: lower training.learning_rate or set "
            "training.precision to fp32"
        )
    trainer.model.save_pretrained(output, safe_serialization=True)
    tokenizer.save_pretrained(output)
    return history


def _rows(path: Path) -> int:
    return sum(len(batch) for batch in read_batches(path, ["kind"]))


def _run(trainer: Any, checkpoints: Checkpoints | None, report: Report) -> None:
    """Trains from the beginning or from the last checkpoint.

    Raises KeyboardInterrupt at the end of the step in which the training was interrupted.
    """
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_progress(report))
    if checkpoints is None:
        trainer.train()
        return
    last = checkpoints.last()
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


def _refuse_contamination(settings: TrainingConfig) -> None:
    """Raises UserError for packing on a GPU, because packed rows would attend to each other.

    On a GPU only variable-length attention kernels keep them apart; on a CPU the mask does.
    """
    import torch

    if settings.packing and torch.cuda.is_available():
        raise UserError(
            "training.packing: on a GPU packed rows attend to each other without FlashAttention, "
            "which is not supported yet: set it to false"
        )


def _checked_lora(model: "PreTrainedModel", lora: LoraSettings) -> "LoraConfig":
    """The LoRA configuration; raises UserError if the model lacks one of its modules."""
    wanted = lora.target_modules
    wanted = ATTENTION_MODULES if wanted == "attention" else wanted
    if isinstance(wanted, list):
        known = {name.rpartition(".")[2] for name, _ in model.named_modules()}
        if missing := [name for name in wanted if name.rpartition(".")[2] not in known]:
            raise UserError(
                f"model.lora.target_modules: the base model has no module {missing[0]!r}"
            )
    return configure_lora(lora)


def _pad_token(tokenizer: "PreTrainedTokenizerBase", model: "PreTrainedModel") -> None:
    """Pads with the stop token if the tokenizer has no padding token; labels keep the two apart."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id


_HISTORY_KEYS = ("step", "epoch", "loss", "learning_rate", "grad_norm")


def _entry(entry: dict[str, float]) -> dict[str, float]:
    return {key: entry[key] for key in _HISTORY_KEYS if key in entry}


def _progress(report: Report) -> Any:
    """A trainer callback that reports the loss, the speed and the remaining time, every few seconds."""
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began = time.monotonic()
            self.done_before = state.global_step
            self.say = Throttled(report)
            report(
                f"resumed at step {state.global_step} of {state.max_steps}"
                if state.global_step
                else f"training: {state.max_steps} steps of {_rows_in_a_step(args)} rows"
            )

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            for name, said in (("loss", "loss"), ("eval_loss", "eval loss")):
                if name in (logs or {}):
                    ends = state.global_step in (self.done_before + 1, state.max_steps)
                    line = f"step {state.global_step}/{state.max_steps}  {said} {float(logs[name]):.4f}"
                    self.say(line + self._speed(state, logs), always=ends or name == "eval_loss")

        def _speed(self, state: Any, logs: Any) -> str:
            """How fast this process is, and what that makes of the steps that are left."""
            done = state.global_step - self.done_before
            if "num_tokens" not in logs or not done:
                return ""
            spent = time.monotonic() - self.began
            left = spent / done * (state.max_steps - state.global_step)
            return f"  {logs['num_tokens'] / spent:.0f} tokens/s  {time_of(left)} left"

    return Progress()


def _rows_in_a_step(arguments: "SFTConfig") -> int:
    return int(arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps)
