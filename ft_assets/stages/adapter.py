"""The LoRA adapter: TRL's SFTTrainer with PEFT on the formatted dataset.

It runs in its own process. torch and the trainer are imported inside functions only, so that the graph
loads fast.
"""

import json
import time
from pathlib import Path

from ft_assets.config import ModelConfig, TrainingConfig
from ft_assets.manifest import SOURCES, Settings, Verdict
from ft_assets.records import SourceDocument
from ft_assets.stages.job import Check, Job, Outcome, Report, versions
from ft_assets.stages.models.base_model import fetch_base_model
from ft_assets.stages.models.tuned_model import BASE_MODEL
from ft_assets.stages.models.weights import tensor_names
from ft_assets.stages.training.chooser import choose, read_data
from ft_assets.stages.training.lora import experts_left, said_of_experts
from ft_assets.stages.training.sft import train
from ft_assets.tables import read_table, write_table

LOSS_FELL = Check("loss_fell", "The training loss ended no higher than it began.", blocking=False)
EXPERTS_TRAINED = Check(
    "experts_trained", "The adapter reaches the experts of a mixture of experts.", blocking=False
)
CHECKS = (LOSS_FELL, EXPERTS_TRAINED)
LOSS_HISTORY = "loss_history.json"


def build(job: Job, report: Report) -> Outcome:
    """Builds `adapter`: the PEFT adapter, its tokenizer, `loss_history` and `base_model.json`."""
    model = job.section(ModelConfig)
    base = fetch_base_model(model.base, model.revision)
    dataset = job.inputs["formatted_dataset"]
    settings = choose(job.section(TrainingConfig), model.lora, read_data(dataset, base.folder))
    report(_said(settings.chosen))
    started = time.monotonic()
    history = train(
        base,
        dataset,
        settings.lora,
        settings.training,
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
    _write_sources(job.sources("formatted_dataset"), job.output)
    rows = job.manifests["formatted_dataset"].counts["train_rows"]
    return Outcome(
        counts={
            "steps": len(history),
            "train_rows": rows,
            "first_loss": history[0]["loss"],
            "last_loss": history[-1]["loss"],
        },
        checks={**_loss_fell(history), **_experts_trained(base.folder, job.output)},
        cost={"seconds": round(seconds, 1)},
        tools={
            **versions("torch", "transformers", "trl", "peft", "accelerate", "datasets"),
            "base_revision": base.revision,
        },
        chosen=settings.chosen,
    )


def _said(chosen: Settings) -> str:
    """The chosen settings in one line of progress."""
    said = ", ".join(f"{key} {value}" for key, value in chosen.items())
    return f"chosen from model and data: {said}" if said else "every training setting is set"


def _write_sources(path: Path, output: Path) -> None:
    """Writes the documents that were trained on, without those only held out for evaluation."""
    rows = read_table(path, SourceDocument)
    write_table(output / SOURCES, SourceDocument, (row for row in rows if row.train_rows))


def _loss_fell(history: list[dict[str, float]]) -> dict[str, Verdict]:
    """Compares the mean loss of the last quarter of the steps with that of the first."""
    losses = [entry["loss"] for entry in history]
    part = max(1, len(losses) // 4)
    first, last = sum(losses[:part]) / part, sum(losses[-part:]) / part
    message = f"mean loss {first:.3f} in the first quarter of the steps, {last:.3f} in the last"
    return LOSS_FELL.verdict(last <= first, message)


def _experts_trained(base: Path, adapter: Path) -> dict[str, Verdict]:
    """Whether the adapter has weights for every kind of expert in the base model."""
    names = tensor_names(base)
    if left := experts_left(names, tensor_names(adapter)):
        return EXPERTS_TRAINED.verdict(False, said_of_experts(left))
    has_experts = bool(experts_left(names, []))
    said = "the adapter reaches the experts" if has_experts else "the base model has no experts"
    return EXPERTS_TRAINED.verdict(True, said)


def _publish_json_only(folder: Path) -> None:
    """Removes every file that is not safetensors or text, so that no pickle is ever published."""
    for path in folder.iterdir():
        if path.suffix not in (".safetensors", ".json", ".jinja", ".txt", ".model"):
            path.unlink()


def _sort_modules(config: Path) -> None:
    """Sorts the module names: PEFT writes a set, whose order changes with each run."""
    content = json.loads(config.read_text())
    for key, value in content.items():
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            content[key] = sorted(value)
    config.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
