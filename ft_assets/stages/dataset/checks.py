"""The verdicts on a dataset: what keeps it from being trained on, by the settings `data.gates`.

They speak of ids and not of paths, since a renamed file makes no new dataset; the checks of
`raw_documents` name the files.
"""

from pathlib import Path
from typing import Any

from ft_assets.config import GateSettings
from ft_assets.records import RejectedDocument
from ft_assets.stages.dataset.rows import FAULT
from ft_assets.stages.dataset.split import ASKS, EQUAL, LEAKED, NEAR, REASONS, Verdicts
from ft_assets.stages.dataset.writer import NAMED, DatasetWriter
from ft_assets.stages.job import Job, check
from ft_assets.tables import read_batches, read_table, values

_SHORT = 12
"""Characters of an id that a verdict shows."""

Check = dict[str, Any]


def dataset_checks(
    job: Job, origins: int, writer: DatasetWriter, verdicts: Verdicts
) -> dict[str, Check]:
    """All verdicts on a dataset made of so many origins."""
    gates = job.section(GateSettings)
    documents = job.inputs["raw_documents"]
    return {
        "documents_are_read": _documents_are_read(documents, gates.rejected_documents),
        "text_is_sound": _text_is_sound(documents, gates.unsound_text),
        "few_duplicates": _few_duplicates(origins, writer, gates.duplicate_rows),
        "eval_is_apart": _eval_is_apart(verdicts, writer, gates.eval_overlap),
        "questions_are_apart": _questions_are_apart(writer),
        "rows_fit_max_length": _rows_fit(writer, gates.cut_tokens),
        "rows_end_with_stop": _rows_end_with_stop(writer),
        "rows_add_up": _rows_add_up(origins, writer),
    }


def _gate(found: int, of: int, allowed: float, key: str, what: str, named: str = "") -> Check:
    """A share held against what the settings allow, in words."""
    share = found / of if of else 0.0
    message = f"{found} of {of} {what} ({share:.1%}{named})"
    if share > allowed:
        message += f"; data.gates.{key} allows {allowed:.0%}"
    return check(share <= allowed, message)


def _names(ids: list[str], more: int = 0) -> str:
    """A few ids in short, and that there are more."""
    shown = ", ".join(each[:_SHORT] for each in ids[:NAMED])
    return f": {shown}{', …' if len(ids) > NAMED or more > len(ids) else ''}" if ids else ""


def _documents_are_read(folder: Path, allowed: float) -> Check:
    """A file of a kind that is never read is no document."""
    rejected = read_table(folder / "rejected.parquet", RejectedDocument)
    ids = sorted({row.document_id for row in rejected if row.whole and row.media_type != "unknown"})
    read = sum(len(batch) for batch in read_batches(folder / "quality.parquet", ["text_id"]))
    what = "documents could not be read"
    return _gate(len(ids), len(ids) + read, allowed, "rejected_documents", what, _names(ids))


def _text_is_sound(folder: Path, allowed: float) -> Check:
    characters = unsound = 0
    named: list[str] = []
    for batch in read_batches(folder / "quality.parquet", ["text_id", "characters", "problem"]):
        columns = (values(batch, name) for name in ("text_id", "characters", "problem"))
        for text_id, count, problem in zip(*columns, strict=True):
            characters += count
            if problem:
                unsound += count
                named.append(f"{text_id[:_SHORT]} ({problem})")
    shown = f": {', '.join(named[:NAMED])}" if named else ""
    what = "characters come from texts that look damaged"
    return _gate(unsound, characters, allowed, "unsound_text", what, shown)


def _few_duplicates(origins: int, writer: DatasetWriter, allowed: float) -> Check:
    reasons = [REASONS[EQUAL], REASONS[NEAR]]
    found = sum(writer.dropped[reason] for reason in reasons)
    named = _names([each for reason in reasons for each in writer.named[reason]], found)
    what = "rows are duplicates of another and were left out"
    return _gate(found, origins, allowed, "duplicate_rows", what, named)


def _eval_is_apart(verdicts: Verdicts, writer: DatasetWriter, allowed: float) -> Check:
    named = _names(writer.named[REASONS[LEAKED]], verdicts.leaked)
    what = "eval rows have their words in training rows"
    return _gate(verdicts.leaked, verdicts.judged, allowed, "eval_overlap", what, named)


def _questions_are_apart(writer: DatasetWriter) -> Check:
    found = writer.dropped[REASONS[ASKS]]
    message = f"{found} rows ask one of the questions in questions.jsonl and were left out"
    return check(not found, message + _names(writer.named[REASONS[ASKS]], found), blocking=False)


def _rows_fit(writer: DatasetWriter, allowed: float) -> Check:
    counts = writer.counts
    cut = counts["cut_tokens"] + counts["dropped_tokens"]
    of = counts["train_tokens"] + counts["eval_tokens"] + cut
    what = (
        f"tokens are cut off or dropped by training.max_length, {counts['cut_rows']} rows are cut"
    )
    return _gate(cut, of, allowed, "cut_tokens", what)


def _rows_end_with_stop(writer: DatasetWriter) -> Check:
    faults = {why: count for why, count in writer.dropped.items() if why.startswith(FAULT)}
    said = "; ".join(f"{count} rows: {why}" for why, count in faults.items())
    return check(not faults, said or "every row begins once and ends with the stop token")


def _rows_add_up(origins: int, writer: DatasetWriter) -> Check:
    """Without variants there is a row, or a reason, for each origin."""
    found = writer.counts["unvaried_rows"]
    rows = writer.counts["train_rows"] + writer.counts["eval_rows"]
    message = (
        f"{origins} origins: {rows} rows with their variants, {writer.dropped.total()} left out"
    )
    return check(found == origins, message)
