"""The LoRA adapter: TRL's SFTTrainer with PEFT on the formatted dataset.

It runs in its own process. torch and the trainer are imported inside functions only, so that the graph
loads fast.
"""

import json
import time
from pathlib import Path

from ft_assets.config import ExportConfig, ModelConfig, TrainingConfig
from ft_assets.manifest import SOURCES, Settings, Verdict
from ft_assets.records import SourceDocument
from ft_assets.stages.job import Check, Job, Outcome, Report, versions
from ft_assets.stages.models.tuned_model import BASE_MODEL
from ft_assets.stages.models.weights import parameters_of, tensor_names
from ft_assets.stages.training.checkpoints import Checkpoints
from ft_assets.stages.training.chooser import choose, read_data
from ft_assets.stages.training.estimate import Rows
from ft_assets.stages.training.expected import Expected
from ft_assets.stages.training.lora import experts_left, said_of_experts
from ft_assets.stages.training.memory import training_memory
from ft_assets.stages.training.preflight import checked_base
from ft_assets.stages.training.rehearsal import read_rehearsed, rehearsals
from ft_assets.stages.training.sft import losses_of, train
from ft_assets.tables import read_table, write_table

LOSS_FELL = Check("loss_fell", "The training loss ended no higher than it began.", blocking=False)
EXPERTS_TRAINED = Check(
    "experts_trained", "The adapter reaches the experts of a mixture of experts.", blocking=False
)
CHECKS = (LOSS_FELL, EXPERTS_TRAINED)
LOSS_HISTORY = "loss_history.json"


def build(job: Job, report: Report) -> Outcome:
    """Builds `adapter`: the PEFT adapter, its tokenizer, `loss_history`, `base_model.json`, and the general
    prompts that were rehearsed with their answers, if any.
    """
    model, training = job.section(ModelConfig), job.section(TrainingConfig)
    dataset = job.inputs["formatted_dataset"]
    report(f"looking for the base model {model.base}")
    data = read_data(dataset)
    gguf = job.section(ExportConfig).gguf
    base = checked_base(model, training, gguf, dataset, data.longest, report)
    settings = choose(training, model.lora, data, parameters_of(base.folder))
    report(_said(settings.chosen))
    rows = job.manifests["formatted_dataset"].counts
    expected = Expected(base, model, settings, Rows.counted(rows))
    expected.say(report)
    tools = {
        **versions("torch", "transformers", "trl", "peft", "accelerate", "datasets"),
        "base_revision": base.revision,
    }
    checkpoints = _checkpoints(job, tools, report)
    started = time.monotonic()
    with training_memory(settings.training):
        history = train(
            base,
            dataset,
            settings.lora,
            settings.training,
            job.output,
            report,
            rehearsals(settings.training.rehearsal or 0.0, data.rows),
            checkpoints,
            expected.keep,
        )
    seconds = checkpoints.seconds if checkpoints else time.monotonic() - started
    _publish_json_only(job.output)
    _sort_modules(job.output / "adapter_config.json")
    (job.output / LOSS_HISTORY).write_text(json.dumps(history, indent=1) + "\n")
    (job.output / BASE_MODEL).write_text(
        json.dumps({"base": base.base, "revision": base.revision}, indent=1) + "\n"
    )
    _write_sources(job.sources("formatted_dataset"), job.output)
    losses = losses_of(history)
    return Outcome(
        counts={
            "steps": len(losses),
            "train_rows": rows["train_rows"],
            "rehearsed_rows": len(read_rehearsed(job.output)),
            "first_loss": losses[0],
            "last_loss": losses[-1],
            **_held_out(history),
        },
        checks={**_loss_fell(losses), **_experts_trained(base.folder, job.output)},
        cost={"seconds": round(seconds, 1), **expected.cost()},
        tools=tools,
        chosen=settings.chosen,
    )


def _checkpoints(job: Job, tools: dict[str, str], report: Report) -> Checkpoints | None:
    """The checkpoints to resume from, made with the same tools on the same kind of device."""
    if job.checkpoints is None:
        return None
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Checkpoints(job.checkpoints, {**tools, "device": device}, report)


def _said(chosen: Settings) -> str:
    """The chosen settings in one line of progress."""
    said = ", ".join(f"{key} {value}" for key, value in chosen.items())
    return f"chosen from model and data: {said}" if said else "every training setting is set"


def _write_sources(path: Path, output: Path) -> None:
    """Writes the documents that were trained on, without those only held out for evaluation."""
    rows = read_table(path, SourceDocument)
    write_table(output / SOURCES, SourceDocument, (row for row in rows if row.train_rows))


def _held_out(history: list[dict[str, float]]) -> dict[str, float]:
    """The first and the last loss on held-out rows; nothing if none was held out."""
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    return {"first_eval_loss": losses[0], "last_eval_loss": losses[-1]} if losses else {}


def _loss_fell(losses: list[float]) -> dict[str, Verdict]:
    """Compares the mean loss of the last quarter of the steps with that of the first."""
    part = max(1, len(losses) // 4)
    first, last = sum(losses[:part]) / part, sum(losses[-part:]) / part
    message = f"mean loss {first:.3f} in the first quarter of the steps, {last:.3f} in the last"
    return LOSS_FELL.verdict(last <= first, message, first_quarter=first, last_quarter=last)


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
        if path.suffix not in (".safetensors", ".json", ".jsonl", ".jinja", ".txt", ".model"):
            path.unlink()


def _sort_modules(config: Path) -> None:
    """Sorts the module names: PEFT writes a set, whose order changes with each run."""
    content = json.loads(config.read_text())
    for key, value in content.items():
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            content[key] = sorted(value)
    config.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
