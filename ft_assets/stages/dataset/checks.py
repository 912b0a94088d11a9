"""The checks of a dataset, which block training by the settings under `data.gates`.

Their messages contain ids, not paths, because renaming a file does not create a new dataset.
`engine/verdicts.py` replaces them by paths if a verdict is shown.
"""

from collections.abc import Iterable
from pathlib import Path

from ft_assets.config import GateSettings
from ft_assets.manifest import Verdict
from ft_assets.records import RejectedDocument
from ft_assets.stages.dataset.rows import FAULT
from ft_assets.stages.dataset.split import ASKS, EQUAL, LEAKED, NEAR, REASONS, Decisions
from ft_assets.stages.dataset.writer import DatasetWriter
from ft_assets.stages.job import Check, Job
from ft_assets.tables import read_batches, read_table, values

_SHORT = 12
"""Characters of an id that a verdict shows."""
_NAMED = 3
"""Rows or documents that a verdict names."""

DOCUMENTS_ARE_READ = Check("documents_are_read", "Few documents were rejected.")
TEXT_IS_SOUND = Check("text_is_sound", "Little text is from documents that look damaged.")
FEW_DUPLICATES = Check("few_duplicates", "Few rows are near-duplicates of another.")
EVAL_IS_APART = Check("eval_is_apart", "Few eval rows leak into training rows.")
QUESTIONS_ARE_APART = Check(
    "questions_are_apart", "No training row asks one of the closed-book questions.", blocking=False
)
ROWS_FIT = Check("rows_fit_max_length", "training.max_length cuts few tokens.")
ROWS_END_WITH_STOP = Check(
    "rows_end_with_stop", "Every uncut row has one begin token and ends with the stop token."
)
ROWS_ADD_UP = Check("rows_add_up", "Every origin has a row, or a reason why it was dropped.")
CHECKS = (
    DOCUMENTS_ARE_READ,
    TEXT_IS_SOUND,
    FEW_DUPLICATES,
    EVAL_IS_APART,
    QUESTIONS_ARE_APART,
    ROWS_FIT,
    ROWS_END_WITH_STOP,
    ROWS_ADD_UP,
)
"""The checks of `formatted_dataset`."""

Verdicts = dict[str, Verdict]


def dataset_checks(job: Job, origins: int, writer: DatasetWriter, decisions: Decisions) -> Verdicts:
    """All verdicts on a dataset with `origins` origins."""
    gates = job.section(GateSettings)
    documents = job.inputs["raw_documents"]
    return {
        **_documents_are_read(documents, gates.rejected_documents),
        **_text_is_sound(documents, gates.unsound_text),
        **_few_duplicates(origins, writer, gates.duplicate_rows),
        **_eval_is_apart(decisions, writer, gates.eval_overlap),
        **_questions_are_apart(writer),
        **_rows_fit(writer, gates.cut_tokens),
        **_rows_end_with_stop(writer),
        **_rows_add_up(origins, writer),
    }


def _gate(
    check: Check, found: int, of: int, allowed: float, key: str, what: str, named: str = ""
) -> Verdicts:
    """The verdict on a share, compared with the share that the settings allow."""
    share = found / of if of else 0.0
    message = f"{found} of {of} {what} ({share:.1%}{named})"
    if share > allowed:
        message += f"; data.gates.{key} allows {allowed:.0%}"
    return check.verdict(share <= allowed, message)


def _names(names: list[str], found: int = 0) -> str:
    """A few of so many names, and how many more there are."""
    more = max(found, len(names)) - _NAMED
    shown = ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
    return f": {shown}" if names else ""


def _short(ids: Iterable[str]) -> list[str]:
    return [each[:_SHORT] for each in ids]


def _documents_are_read(folder: Path, allowed: float) -> Verdicts:
    """The verdict on rejected documents; files of an unknown type do not count as documents."""
    rejected = read_table(folder / "rejected.parquet", RejectedDocument)
    ids = sorted({row.document_id for row in rejected if row.whole and row.media_type != "unknown"})
    read = sum(len(batch) for batch in read_batches(folder / "quality.parquet", ["text_id"]))
    what = "documents could not be read"
    return _gate(
        DOCUMENTS_ARE_READ,
        len(ids),
        len(ids) + read,
        allowed,
        "rejected_documents",
        what,
        _names(_short(ids)),
    )


def _text_is_sound(folder: Path, allowed: float) -> Verdicts:
    characters = unsound = 0
    named: list[str] = []
    for batch in read_batches(folder / "quality.parquet", ["text_id", "characters", "problem"]):
        columns = (values(batch, name) for name in ("text_id", "characters", "problem"))
        for text_id, count, problem in zip(*columns, strict=True):
            characters += count
            if problem:
                unsound += count
                named.append(f"{text_id[:_SHORT]} ({problem})")
    what = "characters are from texts that look damaged"
    return _gate(TEXT_IS_SOUND, unsound, characters, allowed, "unsound_text", what, _names(named))


def _few_duplicates(origins: int, writer: DatasetWriter, allowed: float) -> Verdicts:
    reasons = [REASONS[EQUAL], REASONS[NEAR]]
    found = sum(writer.dropped[reason] for reason in reasons)
    named = _names(_short(each for reason in reasons for each in writer.named[reason]), found)
    what = "rows are duplicates of another and were left out"
    return _gate(FEW_DUPLICATES, found, origins, allowed, "duplicate_rows", what, named)


def _eval_is_apart(decisions: Decisions, writer: DatasetWriter, allowed: float) -> Verdicts:
    named = _names(_short(writer.named[REASONS[LEAKED]]), decisions.leaked)
    what = "eval rows share passages with training rows"
    return _gate(
        EVAL_IS_APART, decisions.leaked, decisions.judged, allowed, "eval_overlap", what, named
    )


def _questions_are_apart(writer: DatasetWriter) -> Verdicts:
    found = writer.dropped[REASONS[ASKS]]
    message = f"{found} rows ask a question from questions.jsonl and were left out"
    return QUESTIONS_ARE_APART.verdict(
        not found, message + _names(_short(writer.named[REASONS[ASKS]]), found)
    )


def _rows_fit(writer: DatasetWriter, allowed: float) -> Verdicts:
    counts = writer.counts
    cut = counts["cut_tokens"] + counts["dropped_tokens"]
    of = counts["train_tokens"] + counts["eval_tokens"] + cut
    what = (
        f"tokens are cut off or dropped by training.max_length, {counts['cut_rows']} rows are cut"
    )
    return _gate(ROWS_FIT, cut, of, allowed, "cut_tokens", what)


def _rows_end_with_stop(writer: DatasetWriter) -> Verdicts:
    faults = {why: count for why, count in writer.dropped.items() if why.startswith(FAULT)}
    said = "; ".join(f"{count} rows: {why}" for why, count in faults.items())
    return ROWS_END_WITH_STOP.verdict(
        not faults, said or "every row has one begin token and ends with the stop token"
    )


def _rows_add_up(origins: int, writer: DatasetWriter) -> Verdicts:
    """The verdict that each origin has one unvaried row, or one reason why it was dropped."""
    found = writer.counts["unvaried_rows"]
    rows = writer.counts["train_rows"] + writer.counts["eval_rows"]
    message = (
        f"{origins} origins: {rows} rows with their variants, {writer.dropped.total()} left out"
    )
    return ROWS_ADD_UP.verdict(found == origins, message)
