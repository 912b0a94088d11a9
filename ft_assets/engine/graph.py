"""The graph: the made assets, what each is made from, and the code that makes it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ft_assets.extras import require
from ft_assets.stages.job import Job, Outcome, Report
from ft_assets.tables import load_lean_pyarrow

CORPUS_FILES = "corpus_files"
"""The observed source that the graph begins with."""


@dataclass(frozen=True)
class Node:
    """One made asset. `code_version` is bumped by hand when its stage's work changes.

    What it reads of the settings is said in `engine/asset_settings.py`. A heavy asset runs in a
    process of its own. `extras` are those that its stage needs (`extras.py`).
    """

    inputs: tuple[str, ...]
    code_version: str
    description: str
    heavy: bool = False
    extras: tuple[str, ...] = ()


GRAPH: dict[str, Node] = {
    "raw_documents": Node((CORPUS_FILES,), "7", "Text and instruction records of the corpus."),
    "chunks": Node(("raw_documents",), "5", "Documents cut to size."),
    "qa_pairs": Node(("chunks",), "6", "Question-answer pairs made from the chunks."),
    "formatted_dataset": Node(
        ("raw_documents", "chunks", "qa_pairs"),
        "8",
        "Rows rendered by the template, split into train and eval.",
    ),
    "adapter": Node(
        ("formatted_dataset",), "3", "The LoRA adapter.", heavy=True, extras=("train",)
    ),
    "evaluation": Node(
        ("adapter", "formatted_dataset"),
        "4",
        "Base and tuned compared.",
        heavy=True,
        extras=("train",),
    ),
    "merged_model": Node(
        ("adapter", "evaluation"),
        "2",
        "The adapter merged into its base.",
        heavy=True,
        extras=("train",),
    ),
    "gguf": Node(
        ("merged_model", "evaluation", "adapter"),
        "4",
        "GGUF files, a Modelfile and the model card.",
        heavy=True,
        extras=("train",),  # llama.cpp's converter needs torch
    ),
}
"""The made assets, each after its inputs."""


def run_stage(job: Job, report: Report) -> Outcome:
    """Runs the stage of the job's asset in this process.

    Raises UserError if an extra that it needs is not installed.
    """
    for extra in GRAPH[job.asset].extras:
        require(extra, job.asset)
    if not GRAPH[job.asset].heavy:
        load_lean_pyarrow()
    build: Callable[[Job, Report], Outcome] = import_module(f"ft_assets.stages.{job.asset}").build
    return build(job, report)


def prepare_stage(job: Job, report: Report) -> None:
    """Has the stage of the job's asset refuse in this process what would fail after its run, if it can.

    The stage's module may have `prepare` and `finish`: what they do needs what a worker has not, the keys.
    """
    if prepare := _of_stage(job, "prepare"):
        prepare(job, report)


def finish_stage(job: Job, outcome: Outcome, report: Report) -> Outcome:
    """Has the stage of the job's asset complete in this process what its run left in the job's output."""
    finish = _of_stage(job, "finish")
    return finish(job, outcome, report) if finish else outcome


def _of_stage(job: Job, name: str) -> Callable[..., Any] | None:
    found: Callable[..., Any] | None
    found = getattr(import_module(f"ft_assets.stages.{job.asset}"), name, None)
    if found:
        load_lean_pyarrow()
    return found


def upstream(asset: str) -> list[str]:
    """The made assets that `asset` depends on, directly or not, in the order of the graph."""
    found: set[str] = set()
    waiting = list(GRAPH[asset].inputs)
    while waiting:
        name = waiting.pop()
        if name in GRAPH and name not in found:
            found.add(name)
            waiting += GRAPH[name].inputs
    return [name for name in GRAPH if name in found]
