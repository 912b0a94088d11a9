"""From documents, chunks and pairs to rendered training rows, split by what must stay together.

The unit of the split is the document for text and for pairs made from it, and the answer for
instruction records, so that two wordings of one answer never stand on both sides.
"""

import hashlib
import heapq
import json
import shutil
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ft_assets.errors import StageError, UserError
from ft_assets.records import (
    Chunk,
    Example,
    InstructionRecord,
    Message,
    QAPair,
    Rows,
    TextRows,
    TextWriter,
    batched,
    from_rows,
    read_batches,
    read_table,
    read_texts,
    to_table,
    values,
)
from ft_assets.stages.augmentation import DataAugmenter
from ft_assets.stages.base_model import fetch_base_model, tokenizer_of
from ft_assets.stages.job import Job, Outcome, Previous, Report, check, versions
from ft_assets.stages.prompt_templates import (
    CannotRenderError,
    PromptTemplateManager,
    Rendered,
    tokenize,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CUT_SHARE = 0.05
"""The share of tokens lost to `training.max_length` above which the dataset's check warns."""
_BATCH = 1_000


@dataclass(frozen=True)
class Row:
    """A rendered row before its tokens are counted."""

    kind: Literal["record", "qa", "text"]
    rendered: Rendered
    text_id: str
    source_id: str
    split_group: str


def group_of(text: str) -> str:
    """The split group of rows that share `text`: a text id, or a record's answer."""
    return hashlib.sha256(" ".join(text.lower().split()).encode("utf-8", "replace")).hexdigest()[
        :16
    ]


_INPUTS = {
    "records": ("raw_documents", "records.parquet", "record_id"),
    "pairs": ("qa_pairs", "qa_pairs.parquet", "pair_id"),
    "chunks": ("chunks", "chunks.parquet", "chunk_id"),
}
"""What rows are made from, in the order they have within a text: asset, table, column of ids."""


@dataclass(frozen=True)
class Text:
    """All that rows of one text are made from: its rows in each table, by the names of `_INPUTS`."""

    text_id: str
    rows: dict[str, list[Rows]]

    def source_ids(self) -> list[str]:
        """The ids of records, pairs and chunks, in the order in which their rows stand."""
        return [
            source_id
            for name, (_, _, column) in _INPUTS.items()
            for rows in self.rows.get(name, [])
            for source_id in rows.values(column)
        ]

    def of(self, name: str, record: type) -> list[Any]:
        """The text's records of one kind."""
        return from_rows(self.rows.get(name, []), record)


def texts_of(folder: dict[str, Path]) -> Iterator[Text]:
    """Each text with all that is made from it, in order. `folder` maps each input to its folder."""

    def named(name: str, asset: str, file: str) -> Iterator[tuple[str, str, list[Rows]]]:
        for text_id, rows in read_texts(folder[asset] / file):
            yield text_id, name, rows

    tables = [named(name, asset, file) for name, (asset, file, _) in _INPUTS.items()]
    for text_id, group in groupby(heapq.merge(*tables, key=itemgetter(0)), key=itemgetter(0)):
        yield Text(text_id, {name: rows for _, name, rows in group})


def render_rows(
    text: Text,
    manager: PromptTemplateManager,
    augmenter: DataAugmenter,
    drop: Callable[[str], None],
) -> Iterator[Row]:
    """The rows of one text: records first, then pairs, then the text itself.

    `drop` is told the reason of each row left out.
    """
    of_text = group_of(text.text_id)
    for record in text.of("records", InstructionRecord):
        changed = augmenter.augment_instruction(record)
        try:
            rendered = manager.format(changed.messages, changed.input)
        except CannotRenderError as reason:
            drop(str(reason))
            continue
        group = group_of(record.messages[-1]["content"])
        yield Row("record", rendered, text.text_id, record.record_id, group)
    for pair in text.of("pairs", QAPair):
        turns: list[Message] = [
            {"role": "user", "content": pair.question},
            {"role": "assistant", "content": pair.answer},
        ]
        yield Row("qa", manager.format(turns), text.text_id, pair.pair_id, of_text)
    for chunk in text.of("chunks", Chunk):
        yield Row("text", manager.text(chunk.text), text.text_id, chunk.chunk_id, of_text)


def groups_in(folder: dict[str, Path]) -> set[str]:
    """The split groups of all rows there will be, found without rendering any."""
    records = read_table(folder["raw_documents"] / "records.parquet", InstructionRecord)
    texts: set[str] = set()
    for name in ("pairs", "chunks"):
        asset, file, _ = _INPUTS[name]
        for table in read_batches(folder[asset] / file, ["text_id"]):
            texts.update(values(table, "text_id"))
    answers = {group_of(record.messages[-1]["content"]) for record in records}
    return answers | {group_of(text_id) for text_id in texts}


def split_groups(groups: set[str], eval_fraction: float, seed: int) -> set[str]:
    """The groups held out for evaluation.

    Each group is drawn by a hash of its own, so adding one moves no other. Where the draw
    leaves one side empty, the group whose draw was nearest goes there; a corpus of one group holds
    nothing out.
    """

    def draw(group: str) -> float:
        return int.from_bytes(hashlib.sha256(f"{seed}:{group}".encode()).digest()[:8]) / 2**64

    if not eval_fraction or len(groups) < 2:
        return set()
    held_out = {group for group in groups if draw(group) < eval_fraction}
    if held_out == groups:
        return groups - {max(groups, key=draw)}
    return held_out or {min(groups, key=draw)}


def count_tokens(
    rows: Iterable[Row], tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> Iterator[Example | int]:
    """Each row as an Example, or its tokens where `max_length` leaves nothing to train on."""
    for batch in batched(rows, _BATCH):
        ids = tokenize(tokenizer, [row.rendered for row in batch])
        for row, (prompt, completion) in zip(batch, ids, strict=True):
            total = len(prompt) + len(completion)
            trained = min(total, max_length) - len(prompt)
            if trained <= 0:
                yield total
                continue
            text = f"{row.rendered.prompt}\0{row.rendered.completion}\0{row.source_id}"
            yield Example(
                example_id=hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32],
                kind=row.kind,
                prompt=row.rendered.prompt,
                completion=row.rendered.completion,
                text_id=row.text_id,
                source_id=row.source_id,
                variant=0,
                split_group=row.split_group,
                tokens=min(total, max_length),
                trained_tokens=trained,
                cut_tokens=max(0, total - max_length),
            )


class EarlierRows:
    """The rows of an earlier dataset, rendered with the same settings, by text."""

    def __init__(self, previous: Previous | None) -> None:
        folder = previous.folder if previous else None
        self._splits = [
            TextRows(folder / f"{split}.parquet" if folder else None) for split in ("train", "eval")
        ]

    def take(self, text: Text) -> list[Rows]:
        """The rows of a text in their order; none unless every one of its sources has its row."""
        found = [rows for split in self._splits for rows in split.take(text.text_id)]
        wanted = text.source_ids()
        have = [source_id for rows in found for source_id in rows.values("source_id")]
        if have == wanted:
            return found
        return _in_order(found, have, wanted) if len(have) == len(wanted) else []


def _in_order(found: list[Rows], have: list[str], wanted: list[str]) -> list[Rows]:
    """The rows with the sources `have` in the order `wanted`; none where a source has no row."""
    import pyarrow as pa

    places: defaultdict[str, deque[int]] = defaultdict(deque)
    for place, source_id in enumerate(have):
        places[source_id].append(place)
    try:
        order = [places[source_id].popleft() for source_id in wanted]
    except IndexError:
        return []
    return [Rows.of(pa.concat_tables([rows.table() for rows in found]).take(order))]


_SPLITS = ("train", "eval")


class DatasetWriter:
    """Writes the rows of both splits in every format asked for, and counts them."""

    def __init__(self, output: Path, formats: list[str], held_out: set[str]) -> None:
        self._held_out = held_out
        self._stack = ExitStack()
        self._tables = {
            split: self._stack.enter_context(TextWriter(output / f"{split}.parquet", Example))
            for split in _SPLITS
        }
        self._texts = {
            (split, form): self._stack.enter_context(
                (output / f"{split}.{form}").open("w", encoding="utf-8", newline="\n")
            )
            for split in _SPLITS
            for form in formats
        }
        self.counts: Counter[str] = Counter()
        self.by_text: dict[str, Counter[str]] = {}

    def write(self, text_id: str, rows: list[Rows]) -> None:
        """Writes all rows of one text, each to the split of its group."""
        sides: dict[str, list[Rows]] = {split: [] for split in _SPLITS}
        for some in rows:
            held_out = [group in self._held_out for group in some.values("split_group")]
            for split, wanted in (("train", False), ("eval", True)):
                if all(side is wanted for side in held_out):
                    sides[split].append(some)
                elif wanted in held_out:
                    places = [place for place, side in enumerate(held_out) if side is wanted]
                    sides[split].append(Rows.of(some.table().take(places)))
        for split, found in sides.items():
            if any(map(len, found)):
                self._write(split, text_id, found)

    def _write(self, split: str, text_id: str, rows: list[Rows]) -> None:
        self._tables[split].add(text_id, rows)
        of_text = self.by_text.setdefault(text_id, Counter())
        for some in rows:
            cut = some.values("cut_tokens")
            tokens = sum(some.values("tokens"))
            self.counts[f"{split}_rows"] += len(some)
            self.counts[f"{split}_tokens"] += tokens
            self.counts[f"{split}_trained_tokens"] += sum(some.values("trained_tokens"))
            self.counts["cut_tokens"] += sum(cut)
            self.counts["cut_rows"] += len(cut) - cut.count(0)
            of_text[f"{split}_rows"] += len(some)
            of_text[f"{split}_tokens"] += tokens
            if self._texts:
                columns = some.table().select(["prompt", "completion"])
                self._write_texts(split, columns.to_pylist())

    def _write_texts(self, split: str, rows: list[dict[str, str]]) -> None:
        if file := self._texts.get((split, "jsonl")):
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        if file := self._texts.get((split, "txt")):
            file.writelines(f"{row['prompt']}{row['completion']}\n\n" for row in rows)

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(self, *exc: Any) -> None:
        self._stack.__exit__(*exc)


def _manager(job: Job, tokenizer: "PreTrainedTokenizerBase") -> PromptTemplateManager:
    template = job.settings["data.template"]
    custom = job.settings.get("data.template.text")
    try:
        return PromptTemplateManager(
            tokenizer,
            template if custom is None else "custom",
            custom=custom,
            system_prompt=job.settings["data.system_prompt"],
        )
    except UserError as error:
        raise UserError(f"data.template {template}: {error}") from error


def build(job: Job, report: Report) -> Outcome:
    """Makes `formatted_dataset`: `train` and `eval.parquet`, the exports asked for, and the
    tokenizer with the template that rendered the rows, which everything after this uses.

    A text whose records, pairs and chunks are those of an earlier version is not rendered again.
    """
    base = fetch_base_model(job.settings["model.base"], job.settings["model.revision"])
    tools = {**versions("transformers", "tokenizers", "pyarrow"), "base_revision": base.revision}
    previous = job.reusable(tools)
    earlier = EarlierRows(previous)
    tokenizer = tokenizer_of(base.folder)
    manager = _manager(job, tokenizer)
    augmenter = DataAugmenter(job.section("augment"), job.settings["data.seed"])
    tokenizer.chat_template = manager.chat_template
    if previous:  # the same tokenizer with the same template
        shutil.copytree(previous.folder / "tokenizer", job.output / "tokenizer")
    else:
        tokenizer.save_pretrained(job.output / "tokenizer")
    held_out = split_groups(
        groups_in(job.inputs), job.settings["data.eval_fraction"], job.settings["data.seed"]
    )
    max_length = job.settings["training.max_length"]
    dropped: Counter[str] = Counter()
    dropped_tokens = 0

    def rendered(text: Text) -> Iterator[Example]:
        nonlocal dropped_tokens
        rows = render_rows(text, manager, augmenter, lambda why: dropped.update([why]))
        for example in count_tokens(rows, tokenizer, max_length):
            if isinstance(example, int):
                dropped_tokens += example
                dropped[f"its prompt alone fills training.max_length ({max_length} tokens)"] += 1
            else:
                yield example

    with DatasetWriter(job.output, job.settings["data.export_formats"], held_out) as writer:
        for text in texts_of(job.inputs):
            rows = earlier.take(text) or [Rows.of(to_table(Example, rendered(text)))]
            writer.write(text.text_id, rows)
    for reason, count in dropped.items():
        report(f"{count} rows left out: {reason}")
    if not writer.counts["train_rows"]:
        reasons = "".join(f"\n  {count} rows: {reason}" for reason, count in dropped.items())
        raise StageError(f"no training row is left for corpus {job.corpus}{reasons}")
    writer.counts["dropped_rows"] = dropped.total()
    writer.counts["dropped_tokens"] = dropped_tokens
    return _outcome(job, writer.counts, writer.by_text, tools)


def _outcome(
    job: Job,
    counts: Counter[str],
    by_text: dict[str, Counter[str]],
    tools: dict[str, str],
) -> Outcome:
    names = (
        "train_rows",
        "train_tokens",
        "train_trained_tokens",
        "eval_rows",
        "eval_tokens",
        "dropped_rows",
    )
    cut_tokens = counts["cut_tokens"] + counts["dropped_tokens"]
    share = cut_tokens / (counts["train_tokens"] + counts["eval_tokens"] + cut_tokens)
    return Outcome(
        counts={
            **{name: counts[name] for name in names},
            "rows_cut_by_max_length": counts["cut_rows"],
            "tokens_cut_by_max_length": cut_tokens,
        },
        checks={
            "rows_fit_max_length": check(
                share <= CUT_SHARE,
                f"training.max_length cuts {counts['cut_rows']} rows and {share:.1%} of the tokens",
                blocking=False,
            )
        },
        tools=tools,
        sources=[
            {**line, **by_text[line["text_id"]]}
            for line in job.manifests["raw_documents"]["sources"]
            if line["text_id"] in by_text
        ],
    )
