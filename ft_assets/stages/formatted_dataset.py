"""From documents, chunks and pairs to rendered training rows, split by what must stay together.

The unit of the split is the document for text and for pairs made from it, and the answer for
instruction records, so that two wordings of one answer never stand on both sides.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ft_assets.errors import StageError, UserError
from ft_assets.records import (
    Chunk,
    Example,
    InstructionRecord,
    Message,
    QAPair,
    TableWriter,
    batched,
    read_table,
)
from ft_assets.stages.augmentation import DataAugmenter
from ft_assets.stages.base_model import fetch_base_model, tokenizer_of
from ft_assets.stages.job import Job, Outcome, Report, check, versions
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
    document_id: str
    source_id: str
    split_group: str


def group_of(text: str) -> str:
    """The split group of rows that share `text`: a document id, or a record's answer."""
    return hashlib.sha256(" ".join(text.lower().split()).encode("utf-8", "replace")).hexdigest()[
        :16
    ]


def render_rows(
    folder: dict[str, Path],
    manager: PromptTemplateManager,
    augmenter: DataAugmenter,
    drop: Callable[[str], None],
) -> Iterator[Row]:
    """The rows of all three inputs: records first, then pairs, then text.

    `folder` maps each input asset to its folder. `drop` is told the reason of each row left out.
    """
    for record in read_table(folder["raw_documents"] / "records.parquet", InstructionRecord):
        changed = augmenter.augment_instruction(record)
        try:
            rendered = manager.format(changed.messages, changed.input)
        except CannotRenderError as reason:
            drop(str(reason))
            continue
        group = group_of(record.messages[-1]["content"])
        yield Row("record", rendered, record.document_id, record.record_id, group)
    for pair in read_table(folder["qa_pairs"] / "qa_pairs.parquet", QAPair):
        turns: list[Message] = [
            {"role": "user", "content": pair.question},
            {"role": "assistant", "content": pair.answer},
        ]
        group = group_of(pair.document_id)
        yield Row("qa", manager.format(turns), pair.document_id, pair.chunk_id, group)
    for chunk in read_table(folder["chunks"] / "chunks.parquet", Chunk):
        group = group_of(chunk.document_id)
        yield Row("text", manager.text(chunk.text), chunk.document_id, chunk.chunk_id, group)


def groups_in(folder: dict[str, Path]) -> set[str]:
    """The split groups of all rows there will be, found without rendering any."""
    records = read_table(folder["raw_documents"] / "records.parquet", InstructionRecord)
    pairs = read_table(folder["qa_pairs"] / "qa_pairs.parquet", QAPair)
    chunks = read_table(folder["chunks"] / "chunks.parquet", Chunk)
    return (
        {group_of(record.messages[-1]["content"]) for record in records}
        | {group_of(pair.document_id) for pair in pairs}
        | {group_of(chunk.document_id) for chunk in chunks}
    )


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
) -> Iterator[tuple[Example | None, int]]:
    """Each row as an Example, and how many of its tokens `max_length` cuts off.

    The Example is None where the cut leaves nothing to train on.
    """
    for batch in batched(rows, _BATCH):
        ids = tokenize(tokenizer, [row.rendered for row in batch])
        for row, (prompt, completion) in zip(batch, ids, strict=True):
            total = len(prompt) + len(completion)
            trained = min(total, max_length) - len(prompt)
            if trained <= 0:
                yield None, total
                continue
            text = f"{row.rendered.prompt}\0{row.rendered.completion}\0{row.source_id}"
            example = Example(
                example_id=hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32],
                kind=row.kind,
                prompt=row.rendered.prompt,
                completion=row.rendered.completion,
                document_id=row.document_id,
                source_id=row.source_id,
                split_group=row.split_group,
                tokens=min(total, max_length),
                trained_tokens=trained,
            )
            yield example, max(0, total - max_length)


class DatasetWriter:
    """Writes the rows of both splits in every format asked for, and counts them."""

    def __init__(self, output: Path, formats: list[str], held_out: set[str]) -> None:
        self._held_out = held_out
        self._stack = ExitStack()
        self._tables = {
            split: self._stack.enter_context(TableWriter(output / f"{split}.parquet", Example))
            for split in ("train", "eval")
        }
        self._texts = {
            (split, form): self._stack.enter_context(
                (output / f"{split}.{form}").open("w", encoding="utf-8", newline="\n")
            )
            for split in ("train", "eval")
            for form in formats
        }
        self.counts: Counter[str] = Counter()
        self.by_document: dict[str, Counter[str]] = {}

    def write(self, example: Example) -> None:
        """Writes one row to the split of its group."""
        split = "eval" if example.split_group in self._held_out else "train"
        self._tables[split].write(example)
        self.counts[f"{split}_rows"] += 1
        self.counts[f"{split}_tokens"] += example.tokens
        self.counts[f"{split}_trained_tokens"] += example.trained_tokens
        document = self.by_document.setdefault(example.document_id, Counter())
        document[f"{split}_rows"] += 1
        document[f"{split}_tokens"] += example.tokens
        if file := self._texts.get((split, "jsonl")):
            row = {"prompt": example.prompt, "completion": example.completion}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        if file := self._texts.get((split, "txt")):
            file.write(f"{example.prompt}{example.completion}\n\n")

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
    tokenizer with the template that rendered the rows, which everything after this uses."""
    base = fetch_base_model(job.settings["model.base"], job.settings["model.revision"])
    tokenizer = tokenizer_of(base.folder)
    manager = _manager(job, tokenizer)
    augmenter = DataAugmenter(normalize_whitespace=job.settings["augment.normalize_whitespace"])
    dropped: Counter[str] = Counter()
    tokenizer.chat_template = manager.chat_template
    tokenizer.save_pretrained(job.output / "tokenizer")
    held_out = split_groups(
        groups_in(job.inputs), job.settings["data.eval_fraction"], job.settings["data.seed"]
    )
    max_length = job.settings["training.max_length"]
    cut_rows = cut_tokens = 0
    formats = job.settings["data.export_formats"]
    with DatasetWriter(job.output, formats, held_out) as writer:
        rows = render_rows(job.inputs, manager, augmenter, lambda why: dropped.update([why]))
        for example, cut in count_tokens(rows, tokenizer, max_length):
            cut_rows += bool(cut)
            cut_tokens += cut
            if example is None:
                dropped[f"its prompt alone fills training.max_length ({max_length} tokens)"] += 1
            else:
                writer.write(example)
    for reason, count in dropped.items():
        report(f"{count} rows left out: {reason}")
    if not writer.counts["train_rows"]:
        reasons = "".join(f"\n  {count} rows: {reason}" for reason, count in dropped.items())
        raise StageError(f"no training row is left for corpus {job.corpus}{reasons}")
    tokens = writer.counts["train_tokens"] + writer.counts["eval_tokens"]
    return _outcome(job, writer, dropped, cut_rows, cut_tokens, tokens, base.revision)


def _outcome(
    job: Job,
    writer: DatasetWriter,
    dropped: Counter[str],
    cut_rows: int,
    cut_tokens: int,
    tokens: int,
    revision: str,
) -> Outcome:
    names = ("train_rows", "train_tokens", "train_trained_tokens", "eval_rows", "eval_tokens")
    share = cut_tokens / (tokens + cut_tokens)
    return Outcome(
        counts={
            **{name: writer.counts[name] for name in names},
            "dropped_rows": dropped.total(),
            "rows_cut_by_max_length": cut_rows,
            "tokens_cut_by_max_length": cut_tokens,
        },
        checks={
            "rows_fit_max_length": check(
                share <= CUT_SHARE,
                f"training.max_length cuts {cut_rows} rows and {share:.1%} of the tokens",
                blocking=False,
            )
        },
        tools={**versions("transformers", "tokenizers"), "base_revision": revision},
        sources=[
            {**line, **writer.by_document[line["document_id"]]}
            for line in job.manifests["raw_documents"]["sources"]
            if line["document_id"] in writer.by_document
        ],
    )
