"""The LoRA adapter: TRL's SFTTrainer with PEFT on the formatted dataset.

It runs in its own process. torch and the trainer are imported inside functions only, so that the graph
loads fast.
"""

import json
from pathlib import Path

from ft_assets.config import ComputeConfig, ExportConfig, ModelConfig, TrainingConfig
from ft_assets.extras import require
from ft_assets.manifest import SOURCES, Settings, Verdict
from ft_assets.records import SourceDocument
from ft_assets.stages.job import Check, Job, Outcome, Report, versions
from ft_assets.stages.models.base_model import BaseModel
from ft_assets.stages.models.precision import name_of, precision_of
from ft_assets.stages.models.tuned_model import write_base
from ft_assets.stages.models.weights import parameters_of, tensor_names
from ft_assets.stages.training.arguments import check_steps, steps_of
from ft_assets.stages.training.chooser import Resolved, choose, read_data
from ft_assets.stages.training.estimate import Rows
from ft_assets.stages.training.expected import Expected
from ft_assets.stages.training.held_out import best_evaluation
from ft_assets.stages.training.lora import experts_left, said_of_experts
from ft_assets.stages.training.preflight import checked_base
from ft_assets.stages.training.processes import run_in_processes
from ft_assets.stages.training.rehearsal import read_rehearsed, rehearsals
from ft_assets.stages.training.run_log import Logged, logged_settings
from ft_assets.stages.training.sft import losses_of
from ft_assets.stages.training.work import Work
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
    work, chosen = _planned(job, report)
    rows = job.manifests["formatted_dataset"].counts
    expected = Expected(work.base, work.model, work.training, Rows.counted(rows))
    expected.say(report)
    processes = job.section(ComputeConfig).processes or 1
    if processes > 1:
        trained = run_in_processes(work, processes, report)
    else:
        trained = work.run(report, keep=expected.keep)
    history = trained.history
    _publish_json_only(job.output)
    _sort_modules(job.output / "adapter_config.json")
    (job.output / LOSS_HISTORY).write_text(json.dumps(history, indent=1) + "\n")
    write_base(job.output, work.base, four_bit=work.model.load_in_4bit)
    _write_sources(job.sources("formatted_dataset"), job.output)
    losses = losses_of(history)
    return Outcome(
        counts={
            "steps": len(losses),
            "train_rows": rows["train_rows"],
            "rehearsed_rows": len(read_rehearsed(job.output)),
            "first_loss": losses[0],
            "last_loss": losses[-1],
            **_held_out(history, work.training),
        },
        checks={**_loss_fell(losses), **_experts_trained(work.base.folder, job.output)},
        cost={"seconds": round(trained.seconds, 1), **expected.cost()},
        tools=_tools(work.base),
        chosen=chosen,
    )


def _planned(job: Job, report: Report) -> tuple[Work, Settings]:
    """The training, once it is known that it can be done, and the settings that were chosen for it."""
    model, training = job.section(ModelConfig), job.section(TrainingConfig)
    dataset = job.inputs["formatted_dataset"]
    for name in training.report_to or ():
        require(name, f"training.report_to: {name}")
    report(f"looking for the base model {model.base}")
    data = read_data(dataset)
    export = job.section(ExportConfig)
    processes = job.section(ComputeConfig).processes
    base = checked_base(model, training, export, dataset, data.longest, processes or 1, report)
    precision = name_of(precision_of(training.precision))
    settings = choose(training, model.lora, data, parameters_of(base.folder), precision)
    report(_said(settings.chosen))
    rehearsed = rehearsals(settings.training.rehearsal or 0.0, data.rows)
    if not settings.training.packing:  # packed rows are counted once they are packed
        check_steps(settings.training, steps_of(settings.training, data.rows + rehearsed))
    work = Work(
        base=base,
        dataset=dataset,
        model=model.model_copy(update={"lora": settings.lora}),
        training=settings.training,
        output=job.output,
        rehearsals=rehearsed,
        checkpoints=job.checkpoints,
        made_with=_made_with(base, precision, processes),
        logged=_logged(job, settings, data.rows),
    )
    return work, settings.chosen


def _tools(base: BaseModel) -> dict[str, str]:
    named = versions("torch", "transformers", "trl", "peft", "accelerate", "datasets")
    return {**named, "base_revision": base.revision}


def _made_with(base: BaseModel, precision: str, processes: int | None) -> dict[str, str]:
    """What a checkpoint must have been made with to be resumed from: the same tools, in the same precision
    on the same kind and number of devices."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    several = {"processes": str(processes)} if processes else {}
    return {**_tools(base), "device": device, "precision": precision, **several}


def _logged(job: Job, settings: Resolved, rows: int) -> Logged | None:
    """What the log says of this training; None if the job has no place for a log."""
    if job.runs is None:
        return None
    base = job.section(ModelConfig).base
    shown = logged_settings(base, settings.lora, settings.training, {"train_rows": rows})
    trackers = tuple(dict.fromkeys(settings.training.report_to or ()))
    return Logged(job.corpus, job.runs, trackers, shown)


def _said(chosen: Settings) -> str:
    """The chosen settings in one line of progress."""
    said = ", ".join(f"{key} {value}" for key, value in chosen.items())
    return f"chosen from model and data: {said}" if said else "every training setting is set"


def _write_sources(path: Path, output: Path) -> None:
    """Writes the documents that were trained on, without those only held out for evaluation."""
    rows = read_table(path, SourceDocument)
    write_table(output / SOURCES, SourceDocument, (row for row in rows if row.train_rows))


def _held_out(history: list[dict[str, float]], settings: TrainingConfig) -> dict[str, float]:
    """The first and the last loss on held-out rows, and the best one if the adapter is that of its step;
    nothing if no row was held out.
    """
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    found = {"first_eval_loss": losses[0], "last_eval_loss": losses[-1]} if losses else {}
    if settings.load_best_model_at_end and (best := best_evaluation(history)):
        found |= {"best_step": best["step"], "best_eval_loss": best["eval_loss"]}
    return found


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
