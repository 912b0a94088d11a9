"""The checks of a dataset, which block training by the settings under `data.gates`.

Their messages contain ids, not paths, because renaming a file does not create a new dataset.
`engine/verdicts.py` replaces them by paths if a verdict is shown.
"""

from pathlib import Path

from ft_assets.config import DataConfig, GateSettings
from ft_assets.manifest import Verdict
from ft_assets.stages.dataset.held_out import ENOUGH_ROWS, HeldOut
from ft_assets.stages.dataset.left_out import NAMED, SHORT, LeftOut, Rejections, enumerated
from ft_assets.stages.dataset.rows import FAULT
from ft_assets.stages.dataset.split import Decisions
from ft_assets.stages.dataset.writer import DatasetWriter
from ft_assets.stages.job import Check, Job
from ft_assets.stages.words import counted
from ft_assets.tables import count_rows, read_batches, values

ENOUGH_TO_TRAIN = 10
"""Training rows below which there is a warning; a training service takes no fewer."""
_HELD_OUT_NAMED = 5
"""Held-out documents that a verdict names."""

DOCUMENTS_ARE_READ = Check("documents_are_read", "Few documents were rejected.")
BYTES_ARE_READ = Check("bytes_are_read", "Few bytes are in documents that were rejected.")
RECORDS_ARE_READ = Check("records_are_read", "Few records were turned away.")
ROWS_ARE_RENDERED = Check("rows_are_rendered", "The template refuses few rows.")
TEXT_IS_SOUND = Check("text_is_sound", "Little text is from documents that look damaged.")
FEW_DUPLICATES = Check("few_duplicates", "Few rows are near-duplicates of another.")
EVAL_IS_APART = Check("eval_is_apart", "Few eval rows leak into training rows.")
QUESTIONS_ARE_APART = Check(
    "questions_are_apart", "No training row asks one of the closed-book questions.", blocking=False
)
ROWS_ARE_ENOUGH = Check(
    "rows_are_enough", f"There are at least {ENOUGH_TO_TRAIN} training rows.", blocking=False
)
EVAL_IS_LARGE_ENOUGH = Check(
    "eval_is_large_enough",
    f"At least {ENOUGH_ROWS} rows are held out, so that their loss means something.",
    blocking=False,
)
REASONING_IS_TRAINED = Check(
    "reasoning_is_trained", "The template has a place for the reasoning of records.", blocking=False
)
ROWS_FIT = Check("rows_fit_max_length", "training.max_length cuts few tokens.")
ROWS_END_WITH_STOP = Check(
    "rows_end_with_stop", "Every uncut row has one begin token and ends with the stop token."
)
ROWS_ADD_UP = Check("rows_add_up", "Every origin has a row, or a reason why it was dropped.")
CHECKS = (
    DOCUMENTS_ARE_READ,
    BYTES_ARE_READ,
    RECORDS_ARE_READ,
    ROWS_ARE_RENDERED,
    TEXT_IS_SOUND,
    FEW_DUPLICATES,
    EVAL_IS_APART,
    QUESTIONS_ARE_APART,
    ROWS_ARE_ENOUGH,
    EVAL_IS_LARGE_ENOUGH,
    REASONING_IS_TRAINED,
    ROWS_FIT,
    ROWS_END_WITH_STOP,
    ROWS_ADD_UP,
)
"""The checks of `formatted_dataset`."""

Verdicts = dict[str, Verdict]


def dataset_checks(
    job: Job, origins: int, writer: DatasetWriter, decisions: Decisions, held_out: HeldOut
) -> Verdicts:
    """All verdicts on a dataset with `origins` origins."""
    gates, documents = job.section(GateSettings), job.inputs["raw_documents"]
    rejected = Rejections.of(job.sources("raw_documents"))
    left_out = LeftOut(job.output / "dropped.parquet", job.inputs)
    return {
        **_documents_are_read(documents, rejected, gates.rejected_documents),
        **_bytes_are_read(documents, rejected, gates.rejected_bytes),
        **_records_are_read(rejected, gates.rejected_records),
        **_rows_are_rendered(origins, left_out, gates.refused_rows),
        **_text_is_sound(documents, gates.unsound_text),
        **_few_duplicates(origins, left_out, gates.duplicate_rows),
        **_eval_is_apart(decisions, left_out, gates.eval_overlap),
        **_questions_are_apart(left_out),
        **_rows_are_enough(writer),
        **_eval_is_large_enough(job, writer, held_out),
        **_reasoning_is_trained(writer),
        **_rows_fit(writer, gates.cut_tokens),
        **_rows_end_with_stop(writer),
        **_rows_add_up(origins, writer),
    }


def _gate(
    check: Check, found: int, of: int, allowed: float, key: str, what: str, named: str = ""
) -> Verdicts:
    """The verdict on a share, compared with the share that the settings allow."""
    share = found / of if of else 0.0
    message = f"{found:,} of {of:,} {what} ({share:.1%}{named})"
    if share > allowed:
        message += f"; data.gates.{key} allows {allowed:.0%}"
    return check.verdict(share <= allowed, message, share=share, allowed=allowed, found=found)


def _documents_are_read(folder: Path, rejected: Rejections, allowed: float) -> Verdicts:
    """The verdict on rejected documents; files of an unknown type do not count as documents."""
    unread, named = rejected.unread(), rejected.named_documents()
    read = count_rows(folder / "quality.parquet")
    what = "documents could not be read"
    return _gate(
        DOCUMENTS_ARE_READ, unread, unread + read, allowed, "rejected_documents", what, named
    )


def _bytes_are_read(folder: Path, rejected: Rejections, allowed: float) -> Verdicts:
    of = 0
    for batch in read_batches(folder / "rejected.parquet", ["of_bytes"]):
        of = max(of, *values(batch, "of_bytes"), 0)
    found, named = rejected.bytes, rejected.named_documents()
    what = "bytes are in documents that could not be read"
    return _gate(BYTES_ARE_READ, found, of, allowed, "rejected_bytes", what, named)


def _records_are_read(rejected: Rejections, allowed: float) -> Verdicts:
    of = rejected.records + rejected.records_read
    named, what = rejected.named_records(), "records were turned away"
    return _gate(RECORDS_ARE_READ, rejected.records, of, allowed, "rejected_records", what, named)


def _rows_are_rendered(origins: int, left_out: LeftOut, allowed: float) -> Verdicts:
    named = left_out.named("refusals", with_reason=True)
    what, found = "rows are refused by the template", left_out.count("refusals")
    return _gate(ROWS_ARE_RENDERED, found, origins, allowed, "refused_rows", what, named)


def _text_is_sound(folder: Path, allowed: float) -> Verdicts:
    characters = unsound = 0
    named: list[str] = []
    for batch in read_batches(folder / "quality.parquet", ["text_id", "characters", "problem"]):
        columns = (values(batch, name) for name in ("text_id", "characters", "problem"))
        for text_id, count, problem in zip(*columns, strict=True):
            characters += count
            if problem:
                unsound += count
                named.append(f"{text_id[:SHORT]} ({problem})")
    shown = enumerated(named[:NAMED], len(named))
    what = "characters are from texts that look damaged"
    return _gate(TEXT_IS_SOUND, unsound, characters, allowed, "unsound_text", what, shown)


def _few_duplicates(origins: int, left_out: LeftOut, allowed: float) -> Verdicts:
    found, named = left_out.count("duplicates"), left_out.named("duplicates")
    what = "rows are duplicates of another and were left out"
    return _gate(FEW_DUPLICATES, found, origins, allowed, "duplicate_rows", what, named)


def _eval_is_apart(decisions: Decisions, left_out: LeftOut, allowed: float) -> Verdicts:
    named = left_out.named("leaks")
    what = "eval rows share passages with training rows"
    return _gate(
        EVAL_IS_APART, decisions.leaked, decisions.judged, allowed, "eval_overlap", what, named
    )


def _questions_are_apart(left_out: LeftOut) -> Verdicts:
    found, named = left_out.count("questions"), left_out.named("questions")
    message = f"{found:,} rows ask a question from questions.jsonl and were left out{named}"
    return QUESTIONS_ARE_APART.verdict(not found, message, found=found)


def _rows_are_enough(writer: DatasetWriter) -> Verdicts:
    rows = writer.counts["train_rows"]
    message = counted(rows, "training row")
    if rows < ENOUGH_TO_TRAIN:
        message += ", too few to learn more than their wording: 50 to 100 are a usual beginning"
    return ROWS_ARE_ENOUGH.verdict(rows >= ENOUGH_TO_TRAIN, message)


def _eval_is_large_enough(job: Job, writer: DatasetWriter, held_out: HeldOut) -> Verdicts:
    rows = writer.counts["eval_rows"]
    if not rows:
        wanted = job.section(DataConfig).eval_fraction
        small = (
            "the corpus is too small, or its texts repeat each other"
            if wanted
            else "data.eval_fraction is 0"
        )
        return EVAL_IS_LARGE_ENOUGH.verdict(not wanted, f"nothing is held out: {small}")
    message = counted(rows, "eval row")
    if rows < ENOUGH_ROWS:
        message += f", too few for their loss to mean anything (from {ENOUGH_ROWS} on it does)"
    named = held_out.named(lambda text_id: text_id[:SHORT], _HELD_OUT_NAMED)
    return EVAL_IS_LARGE_ENOUGH.verdict(
        rows >= ENOUGH_ROWS, f"{message}; held out for evaluation: {named}", eval_rows=rows
    )


def _reasoning_is_trained(writer: DatasetWriter) -> Verdicts:
    trained, unused = writer.counts["reasoning_trained"], writer.counts["reasoning_unused"]
    message = f"{counted(trained, 'answer')} with the reasoning of its record"
    if unused:
        message = (
            f"{unused:,} of {counted(trained + unused, 'answer')} with reasoning are trained without it: "
            "the template has no place for it there. To train it, set model.base to a reasoning model"
        )
    return REASONING_IS_TRAINED.verdict(not unused, message, found=unused)


def _rows_fit(writer: DatasetWriter, allowed: float) -> Verdicts:
    counts = writer.counts
    cut = counts["cut_tokens"] + counts["dropped_tokens"]
    of = counts["train_tokens"] + counts["eval_tokens"] + cut
    rows = counted(counts["cut_rows"], "row")
    what = f"tokens are cut off or dropped by training.max_length, {rows} cut"
    if of and cut / of > allowed:
        what += ": raise it, or split what is longer"
    return _gate(ROWS_FIT, cut, of, allowed, "cut_tokens", what)


def _rows_end_with_stop(writer: DatasetWriter) -> Verdicts:
    faults = {why: count for why, count in writer.dropped.items() if why.startswith(FAULT)}
    said = "; ".join(f"{count} rows: {why}" for why, count in faults.items())
    return ROWS_END_WITH_STOP.verdict(
        not faults,
        said or "every row has one begin token and ends with the stop token",
        found=sum(faults.values()),
    )


def _rows_add_up(origins: int, writer: DatasetWriter) -> Verdicts:
    """The verdict that each origin has one unvaried row, or one reason why it was dropped."""
    found = writer.counts["unvaried_rows"]
    rows = writer.counts["train_rows"] + writer.counts["eval_rows"]
    message = (
        f"{origins} origins: {rows} rows with their variants, {writer.dropped.total()} left out"
    )
    return ROWS_ADD_UP.verdict(found == origins, message, origins=origins, found=found)
