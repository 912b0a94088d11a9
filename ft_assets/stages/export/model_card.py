"""MODEL_CARD.md: a model's base, data, settings, checks and metrics."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from ft_assets.files import visible
from ft_assets.records import SourceDocument
from ft_assets.stages.job import Job
from ft_assets.tables import read_table

_METRICS = {
    "key_facts": "Key facts given, closed book",
    "eval_loss": "Loss on held-out rows",
    "perplexity": "Perplexity on held-out rows",
}


def model_card(job: Job, metrics: dict[str, float], files: dict[Path, str | None]) -> str:
    """The card of one export, from the manifests that the model depends on.

    `files` maps each file to how many of its tensors have a larger type than its name says, if any has.
    It contains no time, so that a rebuild gives the same bytes.
    """
    return "\n".join(_lines(job, metrics, files)) + "\n"


def _lines(job: Job, metrics: dict[str, float], files: dict[Path, str | None]) -> Iterator[str]:
    adapter = job.manifests["adapter"]
    base, revision = adapter.settings["model.base"], adapter.tools["base_revision"]
    yield f"# {job.corpus}\n"
    yield f"A LoRA adapter trained on the corpus `{job.corpus}`, merged into its base model.\n"
    yield f"- Base model: `{base}`, revision `{revision}`; its licence applies to this model too."
    yield f"- Adapter version: `{adapter.version}`"
    yield f"- Dataset version: `{adapter.inputs['formatted_dataset']}`\n"
    yield from _forced(job)
    yield "## Files\n"
    yield from _table(
        ("File", "MB", "Tensors of a larger type"),
        (
            (path.name, f"{path.stat().st_size / 1e6:.0f}", larger or "none")
            for path, larger in files.items()
        ),
    )
    yield "## Base and tuned\n"
    yield from _table(("Metric", "Base", "Tuned"), _metric_rows(metrics))
    yield "## Checks\n"
    yield from _table(("Asset", "Check", "Verdict", "Message"), _check_rows(job))
    yield "## Documents\n"
    yield from _table(("Document", "sha256", "Training rows", "Tokens"), _document_rows(job))
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


def _metric_rows(metrics: dict[str, float]) -> Iterator[tuple[str, str, str]]:
    for key, name in _METRICS.items():
        if f"tuned_{key}" in metrics:
            of = metrics["questions" if key == "key_facts" else "eval_rows"]
            yield (
                f"{name} (of {of:.0f})",
                f"{metrics[f'base_{key}']:.4g}",
                f"{metrics[f'tuned_{key}']:.4g}",
            )


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
