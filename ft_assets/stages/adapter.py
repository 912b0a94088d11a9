"""The LoRA adapter: TRL's SFTTrainer with PEFT over the formatted dataset.

Imports torch and the trainer inside functions only; run in a process of its own.
"""

import json
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_assets.config import ATTENTION_MODULES
from ft_assets.errors import StageError, UserError
from ft_assets.records import Example
from ft_assets.stages.base_model import BaseModel, fetch_base_model, tokenizer_of
from ft_assets.stages.job import Job, Outcome, Report, check, versions
from ft_assets.stages.prompt_templates import Rendered, tokenize
from ft_assets.tables import batched, read_table

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import SFTConfig

LOSS_HISTORY = "loss_history.json"
BASE_MODEL = "base_model.json"
_IGNORED = -100
"""The label of a token that no loss is taken on, as PyTorch's cross entropy has it."""


def precision_of(setting: str) -> "torch.dtype":
    """The dtype to train in: `auto` is bfloat16 on a GPU that has it and float32 elsewhere.

    Raises UserError for a precision that this machine has not.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    if setting == "auto":
        return torch.bfloat16 if on_gpu and torch.cuda.is_bf16_supported() else torch.float32
    if setting == "fp16" and not on_gpu:
        raise UserError("training.precision fp16 needs a GPU; use auto, fp32 or bf16 here")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[setting]


def load_model(folder: Path, dtype: "torch.dtype") -> "PreTrainedModel":
    """The base model in `folder`, on the GPU where there is one.

    Raises UserError where its weights cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: the base model cannot be loaded ({error})") from error
    return model.to("cuda" if torch.cuda.is_available() else "cpu")  # type: ignore[no-any-return]


def configure_lora(lora: dict[str, Any]) -> "LoraConfig":
    """PEFT's configuration of the settings under `model.lora`."""
    from peft import LoraConfig

    modules = lora["target_modules"]
    return LoraConfig(
        r=lora["r"],
        lora_alpha=lora["lora_alpha"],
        lora_dropout=lora["lora_dropout"],
        target_modules=ATTENTION_MODULES if modules == "attention" else modules,
        task_type="CAUSAL_LM",
    )


def tokenized_rows(
    path: Path, tokenizer: "PreTrainedTokenizerBase"
) -> Iterator[dict[str, list[int]]]:
    """The rows of `path` as `input_ids` and `labels`, with a loss on the completion only."""
    for batch in batched(read_table(path, Example), 1_000):
        rendered = [Rendered(row.prompt, row.completion) for row in batch]
        for prompt, completion in tokenize(tokenizer, rendered):
            labels = [_IGNORED] * len(prompt) + completion
            yield {"input_ids": prompt + completion, "labels": labels}


def load_dataset(path: Path, tokenizer: "PreTrainedTokenizerBase", scratch: Path) -> "Dataset":
    """The tokenized rows of `path`, kept on disk below `scratch` and mapped, not in memory."""
    from datasets import Dataset, Features, Sequence, Value

    ids = Sequence(Value("int32"))
    return Dataset.from_generator(
        tokenized_rows,
        features=Features({"input_ids": ids, "labels": Sequence(Value("int64"))}),
        gen_kwargs={"path": path, "tokenizer": tokenizer},
        cache_dir=str(scratch),
    )


def training_arguments(settings: dict[str, Any], folder: Path) -> "SFTConfig":
    """TRL's configuration of the settings under `training`, writing below `folder`."""
    import torch
    from trl import SFTConfig

    own = dict(settings)
    dtype = precision_of(own.pop("precision"))
    return SFTConfig(
        output_dir=str(folder),
        bf16=dtype is torch.bfloat16,
        fp16=dtype is torch.float16,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        completion_only_loss=False,  # the labels say it already
        dataloader_pin_memory=torch.cuda.is_available(),
        data_seed=own["seed"],
        **own,
    )


def train(
    base: BaseModel,
    dataset: Path,
    lora: dict[str, Any],
    settings: dict[str, Any],
    output: Path,
    report: Report,
) -> list[dict[str, float]]:
    """Trains a LoRA adapter on `train.parquet` in `dataset` and saves it to `output`.

    Returns the loss history, one entry a step: step, epoch, loss, learning_rate, grad_norm.
    Raises StageError where the loss is not a number.
    """
    from transformers import PrinterCallback
    from trl import SFTTrainer

    _refuse_contamination(settings)
    tokenizer = tokenizer_of(dataset / "tokenizer")
    model = load_model(base.folder, precision_of(settings["precision"]))
    _pad_token(tokenizer, model)
    with tempfile.TemporaryDirectory(prefix="ft-assets-trainer-") as scratch:
        trainer = (SFTTrainer if model.device.type == "cuda" else _cpu_trainer())(
            model=model,
            args=training_arguments(settings, Path(scratch)),
            train_dataset=load_dataset(dataset / "train.parquet", tokenizer, Path(scratch)),
            processing_class=tokenizer,
            peft_config=_checked_lora(model, lora),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(_progress(report))
        trainer.train()
    history = [_entry(entry) for entry in trainer.state.log_history if "loss" in entry]
    if not history or not all(math.isfinite(entry["loss"]) for entry in history):
        raise StageError(
            "the training loss is not a number; lower training.learning_rate or use "
            "training.precision fp32"
        )
    trainer.model.save_pretrained(output, safe_serialization=True)
    tokenizer.save_pretrained(output)
    return history


def _refuse_contamination(settings: dict[str, Any]) -> None:
    """Raises UserError for packing on a GPU, where rows would attend to each other.

    Only attention kernels for sequences of many lengths keep them apart there; on a CPU the mask
    does.
    """
    import torch

    if settings["packing"] and torch.cuda.is_available():
        raise UserError(
            "training.packing: on a GPU packed rows attend to each other without FlashAttention, "
            "which is not supported yet; set it to false"
        )


def _real_tokens(inputs: dict[str, Any]) -> int:
    """How many tokens of a batch are no padding; a packed batch has no mask and no padding."""
    mask = inputs.get("attention_mask")
    return int(inputs["input_ids"].numel() if mask is None else mask.sum())


def _cpu_trainer() -> type:
    """SFTTrainer with the same loss, taken a cheaper way where there is no GPU.

    TRL's fused head scores every position three times over without its GPU kernel, those without
    a label included. Here the vocabulary is met at the labelled positions alone.
    """
    import torch
    from trl import SFTTrainer

    class CPUTrainer(SFTTrainer):  # type: ignore[misc]
        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            inputs = dict(inputs)
            labels = inputs.pop("labels")[:, 1:]
            trained = labels != _IGNORED
            head = self.accelerator.unwrap_model(model).get_output_embeddings()
            # The model's own forward goes on with fewer positions, so whatever a family does to
            # its logits afterwards (scaling, soft caps) is done here too.
            hook = head.register_forward_pre_hook(
                lambda _, given: (given[0][:, :-1][trained][None],)
            )
            try:
                logits = model(**inputs, use_cache=False).logits[0]
            finally:
                hook.remove()
            loss = torch.nn.functional.cross_entropy(
                logits.float(), labels[trained], reduction="sum"
            )
            self._total_train_tokens += _real_tokens(inputs)
            self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
            count = trained.sum() if num_items_in_batch is None else num_items_in_batch
            return loss / torch.as_tensor(count).clamp(min=1)

    return CPUTrainer


def _checked_lora(model: "PreTrainedModel", lora: dict[str, Any]) -> "LoraConfig":
    """The LoRA configuration; raises UserError where the model has no such modules."""
    wanted = lora["target_modules"]
    wanted = ATTENTION_MODULES if wanted == "attention" else wanted
    if isinstance(wanted, list):
        known = {name.rpartition(".")[2] for name, _ in model.named_modules()}
        if missing := [name for name in wanted if name.rpartition(".")[2] not in known]:
            raise UserError(f"model.lora.target_modules: the base model has no {missing[0]!r}")
    return configure_lora(lora)


def _pad_token(tokenizer: "PreTrainedTokenizerBase", model: "PreTrainedModel") -> None:
    """Gives a tokenizer without a padding token its stop token; labels keep the two apart."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id


_HISTORY_KEYS = ("step", "epoch", "loss", "learning_rate", "grad_norm")


def _entry(entry: dict[str, float]) -> dict[str, float]:
    return {key: entry[key] for key in _HISTORY_KEYS if key in entry}


def _progress(report: Report) -> Any:
    """A trainer callback that reports each step's loss, speed and the time that is left."""
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


def build(job: Job, report: Report) -> Outcome:
    """Makes `adapter`: the PEFT adapter, its tokenizer, `loss_history` and `base_model.json`."""
    model = job.section("model")
    base = fetch_base_model(model["base"], model["revision"])
    started = time.monotonic()
    history = train(
        base,
        job.inputs["formatted_dataset"],
        job.section("model.lora"),
        job.section("training"),
        job.output,
        report,
    )
    seconds = time.monotonic() - started
    _publish_json_only(job.output)
    _sort_modules(job.output / "adapter_config.json")
    (job.output / LOSS_HISTORY).write_text(json.dumps(history, indent=1) + "\n")
    (job.output / BASE_MODEL).write_text(
        json.dumps({"base": base.base, "revision": base.revision}, indent=1) + "\n"
    )
    rows = job.manifests["formatted_dataset"]["counts"]["train_rows"]
    return Outcome(
        counts={
            "steps": len(history),
            "train_rows": rows,
            "first_loss": history[0]["loss"],
            "last_loss": history[-1]["loss"],
        },
        checks={"loss_fell": _loss_fell(history)},
        cost={"seconds": round(seconds, 1)},
        tools={
            **versions("torch", "transformers", "trl", "peft", "accelerate", "datasets"),
            "base_revision": base.revision,
        },
        sources=[
            line
            for line in job.manifests["formatted_dataset"]["sources"]
            if line.get("train_rows")  # what is only held out for evaluation was not learned from
        ],
    )


def _loss_fell(history: list[dict[str, float]]) -> dict[str, Any]:
    """Whether the last quarter of the steps had a lower mean loss than the first; only a warning."""
    losses = [entry["loss"] for entry in history]
    part = max(1, len(losses) // 4)
    first, last = sum(losses[:part]) / part, sum(losses[-part:]) / part
    message = f"mean loss {first:.3f} in the first quarter of the steps, {last:.3f} in the last"
    return check(last <= first, message, blocking=False)


def _publish_json_only(folder: Path) -> None:
    """Removes whatever is neither safetensors nor text: no pickle is ever published."""
    for path in folder.iterdir():
        if path.suffix not in (".safetensors", ".json", ".jinja", ".txt", ".model"):
            path.unlink()


def _sort_modules(config: Path) -> None:
    """Puts the module names in order: PEFT writes a set, in an order that changes with each run."""
    content = json.loads(config.read_text())
    for key, value in content.items():
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            content[key] = sorted(value)
    config.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def adapter_base(adapter: Path) -> BaseModel:
    """The base model that an adapter was trained on, at the same revision."""
    named = json.loads((adapter / BASE_MODEL).read_text())
    base = fetch_base_model(named["base"], named["revision"])
    if base.revision != named["revision"]:
        raise StageError(
            f"the base model {named['base']} has changed since the adapter was trained; "
            "train the adapter again"
        )
    return base
