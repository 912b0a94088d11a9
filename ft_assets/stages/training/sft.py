"""Supervised fine-tuning of a LoRA adapter: TRL's SFTTrainer with PEFT."""

import math
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_assets.config import LoraSettings, TrainingConfig
from ft_assets.errors import StageError, UserError
from ft_assets.stages.job import Report
from ft_assets.stages.models.base_model import BaseModel
from ft_assets.stages.models.tokenizer import save_tokenizer, tokenizer_of
from ft_assets.stages.models.tuned_model import load_model, precision_of
from ft_assets.stages.templates.tokenization import tokenized_rows
from ft_assets.stages.training.cpu_loss import cpu_trainer
from ft_assets.stages.training.lora import checked_lora

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import SFTConfig


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
) -> list[dict[str, float]]:
    """Trains a LoRA adapter on `train.parquet` in `dataset` and saves it to `output`.

    Returns the loss history, one entry per step: step, epoch, loss, learning_rate, grad_norm.
    Raises StageError if the loss is not a finite number, UserError for unsupported settings.
    """
    from transformers import PrinterCallback
    from trl import SFTTrainer

    _refuse_contamination(settings)
    tokenizer = tokenizer_of(dataset / "tokenizer")
    model = load_model(base.folder, precision_of(settings.precision))
    _pad_token(tokenizer, model)
    with tempfile.TemporaryDirectory(prefix="ft-assets-trainer-") as scratch:
        trainer = (SFTTrainer if model.device.type == "cuda" else cpu_trainer())(
            model=model,
            args=training_arguments(settings, Path(scratch)),
            train_dataset=load_dataset(dataset / "train.parquet", tokenizer, Path(scratch)),
            processing_class=tokenizer,
            peft_config=checked_lora(model, lora, report),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(_progress(report))
        trainer.train()
    history = [_entry(entry) for entry in trainer.state.log_history if "loss" in entry]
    if not history or not all(math.isfinite(entry["loss"]) for entry in history):
        raise StageError(
            "the training loss is not a number: lower training.learning_rate or set "
            "training.precision to fp32"
        )
    trainer.model.save_pretrained(output, safe_serialization=True)
    save_tokenizer(tokenizer, base.folder, output)
    return history


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


def _pad_token(tokenizer: "PreTrainedTokenizerBase", model: "PreTrainedModel") -> None:
    """Pads with the stop token if the tokenizer has no padding token; labels keep the two apart."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id


_HISTORY_KEYS = ("step", "epoch", "loss", "learning_rate", "grad_norm")


def _entry(entry: dict[str, float]) -> dict[str, float]:
    return {key: entry[key] for key in _HISTORY_KEYS if key in entry}


def _progress(report: Report) -> Any:
    """A trainer callback that reports each step's loss, speed and remaining time."""
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.started = time.monotonic()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" not in (logs or {}):
                return
            spent = time.monotonic() - self.started
            left = spent / state.global_step * (state.max_steps - state.global_step)
            tokens = logs.get("num_tokens", 0) / spent
            report(
                f"step {state.global_step}/{state.max_steps}  loss {float(logs['loss']):.4f}  "
                f"{tokens:.0f} tokens/s  {left:.0f} s left"
            )

    return Progress()
