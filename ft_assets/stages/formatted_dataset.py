"""Renders documents, chunks and pairs to training rows, split so that related rows stay together.

All origins are sketched and compared first. Then, text by text, each gets its rows, or the reason why it
has none.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_assets.config import AugmentConfig, DataConfig, ModelConfig, TrainingConfig
from ft_assets.errors import StageError, UserError
from ft_assets.files import link_or_copy
from ft_assets.manifest import SOURCES
from ft_assets.names import QUESTIONS_FILE
from ft_assets.records import DroppedRow, Example, SourceDocument
from ft_assets.stages.dataset.augmentation import DataAugmenter
from ft_assets.stages.dataset.checks import CHECKS as CHECKS
from ft_assets.stages.dataset.checks import dataset_checks
from ft_assets.stages.dataset.held_out import HeldOut
from ft_assets.stages.dataset.origins import (
    COMPARED,
    OriginGroup,
    Origins,
    chunk_texts,
    groups_of,
    read_origins,
)
from ft_assets.stages.dataset.previous import PreviousDataset, PreviousTable, SidedRows
from ft_assets.stages.dataset.rows import RowMaker
from ft_assets.stages.dataset.split import REASONS, Decisions, decide
from ft_assets.stages.dataset.writer import DatasetWriter
from ft_assets.stages.duplicates import fold_words, hash_text
from ft_assets.stages.job import Job, Outcome, Report, reused_line, versions
from ft_assets.stages.models.base_model import fetch_base_model
from ft_assets.stages.models.tokenizer_cache import light_tokenizer_of
from ft_assets.stages.questions import read_questions
from ft_assets.stages.templates.chat import frozen_date
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager
from ft_assets.tables import Rows, batched, read_table, to_table, write_table

if TYPE_CHECKING:
    from ft_assets.stages.models.light_tokenizer import AnyTokenizer

SKETCHES = "sketches.parquet"
_WRITTEN = 1_000
"""Rows that are rendered in memory before they are written."""


@dataclass(frozen=True)
class Chosen:
    """The decisions on the origins of a group.

    `kept` maps the origins that get rows, in order, to whether they are held out, and `groups` maps them
    to their split group; `dropped` contains the others with the reason.
    """

    kept: dict[str, bool]
    groups: dict[str, int]
    dropped: list[DroppedRow]


class _Chooser:
    """Returns the decisions on origins in their order."""

    def __init__(self, origins: Origins, decisions: Decisions) -> None:
        self._reason = decisions.reason.tolist()
        self._kept_as = decisions.kept_as.tolist()
        self._held_out = decisions.held_out.tolist()
        self._groups = origins.array("split_group", "uint64").tolist()
        self._named = {place for place in self._kept_as if place >= 0}
        self._names: dict[int, str] = {}
        self._place = 0

    def choose(self, group: OriginGroup, origin_ids: list[str]) -> Chosen:
        """The decisions on the origins of the next group."""
        chosen = Chosen({}, {}, [])
        for place, origin_id in enumerate(origin_ids, start=self._place):
            if place in self._named:
                self._names[place] = origin_id
            if code := self._reason[place]:
                kept_id = self._names.get(self._kept_as[place])
                chosen.dropped.append(
                    DroppedRow(
                        group.text_id, origin_id, 0, 0, group.kind, REASONS[code], kept_id, 0
                    )
                )
            else:
                chosen.kept[origin_id] = self._held_out[place]
                chosen.groups[origin_id] = self._groups[place]
        self._place += len(origin_ids)
        return chosen


def _rows_of(
    groups: Iterable[OriginGroup], chooser: _Chooser, previous: PreviousDataset, maker: RowMaker
) -> Iterator[SidedRows]:
    """The rows of each group, reused from the previous dataset if possible, else rendered."""
    for group in groups:
        origin_ids = group.origin_ids()
        chosen = chooser.choose(group, origin_ids)
        if chosen.dropped:
            yield SidedRows(dropped=_rows(DroppedRow, chosen.dropped))
        taken = previous.take(group.text_id, set(origin_ids), chosen.kept)
        if taken is not None:
            previous.reused += sum(map(len, (*taken.train, *taken.eval)))
            yield taken
            continue
        for some in batched(maker.rows_of(group, chosen.groups), _WRITTEN):
            yield _sided(some, chosen.kept)


def _sided(made: list[Example | DroppedRow], kept: dict[str, bool]) -> SidedRows:
    """Puts rows on the side of their origin."""
    rows = [row for row in made if isinstance(row, Example)]
    return SidedRows(
        _rows(Example, [row for row in rows if not kept[row.origin_id]]),
        _rows(Example, [row for row in rows if kept[row.origin_id]]),
        _rows(DroppedRow, [row for row in made if isinstance(row, DroppedRow)]),
    )


def _rows(record: type, records: Sequence[Any]) -> list[Rows]:
    return [Rows.of(to_table(record, records))] if records else []


@contextmanager
def _naming_the_template(job: Job) -> Iterator[None]:
    """Adds the template's name to errors, from loading it or from rendering rows."""
    try:
        yield
    except UserError as error:
        raise UserError(f"data.template {job.section(DataConfig).template}: {error}") from error


def _manager(job: Job, tokenizer: "AnyTokenizer") -> PromptTemplateManager:
    data = job.section(DataConfig)
    custom = job.text("data.template.text")
    with _naming_the_template(job):
        return PromptTemplateManager(
            tokenizer,
            data.template if custom is None else "custom",
            custom=custom,
            system_prompt=data.system_prompt,
        )


def _asked(job: Job) -> set[int]:
    """The closed-book questions of the corpus, as hashes of their words."""
    questions = read_questions(job.source / QUESTIONS_FILE)
    return {hash_text(fold_words(item.question)) for item in questions}


def build(job: Job, report: Report) -> Outcome:
    """Builds `formatted_dataset`: `train`, `eval`, `dropped` and `sketches.parquet`, the configured
    exports, and the tokenizer with the template that rendered the rows, which all later stages use.

    Sketches and rows of unchanged origins are reused from a previous version.
    """
    data, model = job.section(DataConfig), job.section(ModelConfig)
    base = fetch_base_model(model.base, model.revision, weights=False)
    tools = {
        **versions("transformers", "tokenizers", "numpy", "pyarrow"),
        "base_revision": base.revision,
    }
    previous = job.reusable(tools)
    folder = previous.folder if previous else None
    tokenizer = light_tokenizer_of(base.folder)
    manager = _manager(job, tokenizer)
    if day := frozen_date(tokenizer, data.template):
        report(f"the chat template writes the date; in all rows and exports it is {day:%d %b %Y}")
    tokenizer.chat_template = manager.chat_template
    if folder:  # the same tokenizer with the same template
        shutil.copytree(folder / "tokenizer", job.output / "tokenizer", copy_function=link_or_copy)
    else:
        tokenizer.save_pretrained(job.output / "tokenizer")
    augmenter = DataAugmenter(job.section(AugmentConfig), seed=data.seed)
    max_length = job.section(TrainingConfig).max_length
    maker = RowMaker(manager, augmenter, tokenizer, max_length, data.train_on)
    previous_sketches = PreviousTable(folder / SKETCHES if folder else None, COMPARED)
    origins = read_origins(job.inputs, previous_sketches, job.output / SKETCHES)
    decisions = decide(origins, data, _asked(job), partial(chunk_texts, job.inputs))
    chooser, previous_rows = _Chooser(origins, decisions), PreviousDataset(folder, REASONS)
    with (
        _naming_the_template(job),
        DatasetWriter(job.output, list(data.export_formats)) as writer,
    ):
        for text_id, groups in groupby(groups_of(job.inputs), key=lambda each: each.text_id):
            writer.write(text_id, _rows_of(groups, chooser, previous_rows, maker))
    if previous:
        made = writer.counts["train_rows"] + writer.counts["eval_rows"]
        report(reused_line(made - previous_rows.reused, made, "rows rendered"))
    for reason, count in writer.dropped.items():
        report(f"{count} rows left out: {reason}")
    held_out = HeldOut(origins, decisions)
    _report_held_out(job, held_out, decisions, report)
    if not writer.counts["train_rows"]:
        reasons = "".join(f"\n  {count} rows: {why}" for why, count in writer.dropped.items())
        raise StageError(f"corpus {job.corpus} has no training rows{reasons}")
    rows = _sources(job.sources("raw_documents"), writer)
    write_table(job.output / SOURCES, SourceDocument, rows)
    return _outcome(job, len(origins), writer, decisions, held_out, tools)


_NAMED = 10
"""Held-out documents that are reported by name."""


def _report_held_out(job: Job, held_out: HeldOut, decisions: Decisions, report: Report) -> None:
    paths: dict[str | None, str] = {}
    for row in read_table(job.sources("raw_documents"), SourceDocument):
        paths.setdefault(row.text_id, row.path)
    if named := held_out.named(lambda text_id: paths.get(text_id, text_id), _NAMED):
        report(f"held out for evaluation: {named}")
    if decisions.recurring:
        report(
            "words that recur in many chunks, as a page's header does, are on both sides of the "
            "split: nearly no chunk is without them"
        )


def _sources(path: Path, writer: DatasetWriter) -> Iterator[SourceDocument]:
    """The documents that have rows, with the number of rows and tokens of each."""
    for row in read_table(path, SourceDocument):
        if row.text_id in writer.by_text:
            counts = writer.by_text[row.text_id]
            yield replace(
                row,
                train_rows=counts["train_rows"],
                train_tokens=counts["train_tokens"],
                eval_rows=counts["eval_rows"],
                eval_tokens=counts["eval_tokens"],
            )


_COUNTED = (
    "train_rows",
    "train_tokens",
    "train_trained_tokens",
    "train_longest",
    "train_text_rows",
    "eval_rows",
    "eval_tokens",
)


def _outcome(
    job: Job,
    origins: int,
    writer: DatasetWriter,
    decisions: Decisions,
    held_out: HeldOut,
    tools: dict[str, str],
) -> Outcome:
    counts = writer.counts
    return Outcome(
        counts={
            "origins": origins,
            **{name: counts[name] for name in _COUNTED},
            "train_deviation": round(writer.deviation("train"), 1),
            "dropped_rows": writer.dropped.total(),
            "escaped_rows": counts["escaped_rows"],
            "normalized_rows": counts["normalized_rows"],
            "reasoning_trained": counts["reasoning_trained"],
            "reasoning_unused": counts["reasoning_unused"],
            "documents_held_out": held_out.whole,
            "documents_held_out_in_part": held_out.in_part,
            "rows_cut_by_max_length": counts["cut_rows"],
            "tokens_cut_by_max_length": counts["cut_tokens"] + counts["dropped_tokens"],
        },
        checks=dataset_checks(job, origins, writer, decisions, held_out),
        tools=tools,
    )
