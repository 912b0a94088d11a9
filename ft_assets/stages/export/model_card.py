"""MODEL_CARD.md: a model's base, data, settings, checks and metrics."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ft_assets.files import visible
from ft_assets.manifest import Verdict
from ft_assets.records import SourceDocument
from ft_assets.stages.export.divergence import Divergence
from ft_assets.stages.export.llama_cpp import is_model_file, megabytes
from ft_assets.stages.job import Job
from ft_assets.tables import read_table

_METRICS = {
    "key_facts": ("Key facts given, closed book", "questions"),
    "eval_loss": ("Loss on held-out rows", "eval_rows"),
    "perplexity": ("Perplexity on held-out rows", "eval_rows"),
    "exact_match": ("Held-out answers equal to the reference, share", "held_out_answers"),
    "token_f1": ("Token F1 of held-out answers", "held_out_answers"),
    "judged_right": ("Answers that the judge calls right", "judged_questions"),
    "judged_partly": ("Answers that the judge calls partly right", "judged_questions"),
    "general_answers": ("General questions answered", "general_questions"),
    "general_perplexity": ("Perplexity of general text", None),
    "stop_rate": ("Answers that end by themselves, share", "answers"),
}
"""The name of each metric, and the count of what it is taken over."""


@dataclass(frozen=True)
class FileRow:
    """A GGUF file, how many of its tensors have a larger type than its name says, if any has, and how far it is
    from the model.
    """

    path: Path
    larger: str | None
    divergence: Divergence


def model_card(
    job: Job,
    metrics: dict[str, float],
    files: Sequence[FileRow],
    checks: Mapping[str, Verdict] | None = None,
) -> str:
    """The card of one export with these checks, from the manifests that the model depends on.

    It contains no time, so that a rebuild gives the same bytes.
    """
    return "\n".join(_lines(job, metrics, files, checks or {})) + "\n"


def _lines(
    job: Job,
    metrics: dict[str, float],
    files: Sequence[FileRow],
    checks: Mapping[str, Verdict],
) -> Iterator[str]:
    adapter = job.manifests["adapter"]
    base, revision = adapter.settings["model.base"], adapter.tools["base_revision"]
    yield f"# {job.corpus}\n"
    yield f"A LoRA adapter trained on the corpus `{job.corpus}`, merged into its base model.\n"
    yield f"- Base model: `{base}`, revision `{revision}`; its licence applies to this model too."
    yield f"- Adapter version: `{adapter.version}`"
    yield f"- Dataset version: `{adapter.inputs['formatted_dataset']}`\n"
    yield from _forced(job)
    if files:
        yield "## Files\n"
        yield from _files(files)
        yield from _failures(checks)
    yield "## Base and tuned\n"
    merged = job.manifests["merged_model"].counts
    yield from _table(("Metric", "Base", "Tuned", "Merged"), _metric_rows(metrics, merged))
    yield from _failures(job.manifests["evaluation"].checks)
    yield "## Checks\n"
    yield from _table(("Asset", "Check", "Verdict", "Message"), _check_rows(job))
    yield "## Documents\n"
    yield from _table(("Document", "sha256", "Training rows", "Tokens"), _document_rows(job))
    if rehearsed := adapter.counts.get("rehearsed_rows"):
        yield (
            f"Besides these, {rehearsed:.0f} training rows are general prompts of ft-assets with the base "
            "model's own answers, against forgetting.\n"
        )
    yield "## Settings\n"
    settings = {
        key: value
        for manifest in job.manifests.values()
        for key, value in manifest.settings.items()
        if value is not None
    }
    chosen = {key: f"{value} (chosen)" for key, value in adapter.chosen.items()}
    yield from _table(
        ("Setting", "Value"),
        ((f"`{k}`", f"`{v}`") for k, v in sorted({**settings, **chosen}.items())),
    )


def _forced(job: Job) -> Iterator[str]:
    forced = [name for name, manifest in job.manifests.items() if manifest.forced]
    if forced:
        yield f"**Built with --force, in spite of a failed check or a fresh artifact:** {', '.join(forced)}.\n"


def _files(files: Sequence[FileRow]) -> Iterator[str]:
    head = ("File", "MB", "KL divergence", "Equal first choices", "Tensors of a larger type")
    yield from _table(head, map(_file_cells, files))
    yield (
        "KL divergence (mean, in nats) and the share of tokens with the same first choice are against the merged "
        "model in Hugging Face, in fp32; those of an adapter, on its base model in f16, against base and adapter.\n"
    )
    if any(not is_model_file(row.path.name) for row in files):
        yield "Use the adapter with a GGUF file of the base model: `llama-cli -m BASE.gguf --lora FILE`.\n"


def _file_cells(row: FileRow) -> tuple[str, ...]:
    size = megabytes(row.path)
    return (
        row.path.name,
        f"{size:.0f}" if size >= 10 else f"{size:.1f}",
        f"{row.divergence.kl:.2g}",
        f"{row.divergence.top1:.1%}",
        row.larger or "none",
    )


def _failures(checks: Mapping[str, Verdict]) -> Iterator[str]:
    """What was found wrong, where one reads the numbers."""
    for name, verdict in checks.items():
        if not verdict["passed"]:
            kind = "Failed check" if verdict["blocking"] else "Warning"
            yield f"**{kind}, {name}:** {_cell(verdict['message'])}\n"


def _metric_rows(
    metrics: dict[str, float], merged: Mapping[str, float]
) -> Iterator[tuple[str, ...]]:
    for key, (name, of) in _METRICS.items():
        if f"tuned_{key}" in metrics:
            values = [metrics[f"base_{key}"], metrics[f"tuned_{key}"], merged.get(f"merged_{key}")]
            count = f" (of {metrics[of]:.0f})" if of else ""
            yield name + count, *("" if each is None else f"{each:.4g}" for each in values)


def _check_rows(job: Job) -> Iterator[tuple[str, str, str, str]]:
    for asset, manifest in job.manifests.items():
        for name, verdict in manifest.checks.items():
            failed = "failed" if verdict["blocking"] else "warning"
            passed = "passed" if verdict["passed"] else failed
            yield asset, name, passed, verdict["message"]


def _document_rows(job: Job) -> Iterator[tuple[str, str, str, str]]:
    for row in read_table(job.sources("merged_model"), SourceDocument):
        yield row.path, f"`{row.document_id}`", str(row.train_rows), str(row.train_tokens)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """A Markdown table, with an empty line after it."""
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"
    yield ""


def _cell(value: str) -> str:
    return visible(value).replace("|", "\\|").replace("\n", " ")
