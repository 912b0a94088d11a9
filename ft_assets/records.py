"""The record types that flow through the stages, and their Arrow schemas.

Everything tabular in the project is Parquet written and read here: zstd level 3, bounded row
groups, one schema a table. No other module chooses a compression or a row group size.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

T = TypeVar("T")

ROW_GROUP = 10_000
"""Rows a row group holds at most, and so what a reader or writer holds in memory."""


class Message(TypedDict):
    """One turn of a conversation, as chat templates take it."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Document:
    """One page or section of a document.

    `start` and `end` are character offsets into the document's whole text, which is its rows'
    texts joined by `PAGE_BREAK`. `page` counts from 1; a format without pages has one row, page 1.
    """

    document_id: str
    page: int
    text: str
    start: int
    end: int
    media_type: str
    engine: str
    encoding: str | None


PAGE_BREAK = "\n\n"
"""What stands between two pages in a document's whole text."""


@dataclass(frozen=True)
class InstructionRecord:
    """One conversation found in a JSON file; its last message is the assistant's.

    `input` is the second field of Alpaca records (the text an instruction is about), kept apart
    from `messages` because the Alpaca template has a place of its own for it.
    """

    record_id: str
    document_id: str
    line: int
    messages: list[Message]
    input: str | None


@dataclass(frozen=True)
class RejectedDocument:
    """A file, or one record of it, that could not be used, and why. Paths stand in the manifest."""

    document_id: str
    media_type: str
    reason: str


@dataclass(frozen=True)
class Chunk:
    """A piece of one document: `document_text[start:end] == text`; `page` is where it starts."""

    chunk_id: str
    document_id: str
    page: int
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class QAPair:
    """A question and its answer, made from one chunk, with the words of the chunk that prove it."""

    question: str
    answer: str
    evidence: str
    chunk_id: str
    document_id: str
    request_id: str


@dataclass(frozen=True)
class Example:
    """One training row, rendered: the loss is taken on `completion` alone.

    `kind` is where it came from: an instruction `record`, a `qa` pair, or a chunk's `text` (whose
    prompt is the begin-of-sequence token or empty). `source_id` is the id of that record, pair's
    chunk or chunk; `split_group` is the unit that never stands on both sides of the split.
    """

    example_id: str
    kind: Literal["record", "qa", "text"]
    prompt: str
    completion: str
    document_id: str
    source_id: str
    split_group: str
    tokens: int
    trained_tokens: int


@dataclass(frozen=True)
class Answer:
    """One question as base and tuned answered it; `None` hits where there is no key fact."""

    question: str
    key_fact: str | None
    base_answer: str
    tuned_answer: str
    base_hit: bool | None
    tuned_hit: bool | None


_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema(list(columns.items()))


SCHEMAS: dict[type, pa.Schema] = {
    Document: _schema(
        document_id=pa.string(),
        page=pa.int32(),
        text=pa.large_string(),
        start=pa.int64(),
        end=pa.int64(),
        media_type=pa.string(),
        engine=pa.string(),
        encoding=pa.string(),
    ),
    InstructionRecord: _schema(
        record_id=pa.string(),
        document_id=pa.string(),
        line=pa.int32(),
        messages=_MESSAGES,
        input=pa.string(),
    ),
    RejectedDocument: _schema(document_id=pa.string(), media_type=pa.string(), reason=pa.string()),
    Chunk: _schema(
        chunk_id=pa.string(),
        document_id=pa.string(),
        page=pa.int32(),
        start=pa.int64(),
        end=pa.int64(),
        text=pa.string(),
    ),
    QAPair: _schema(
        question=pa.string(),
        answer=pa.string(),
        evidence=pa.string(),
        chunk_id=pa.string(),
        document_id=pa.string(),
        request_id=pa.string(),
    ),
    Example: _schema(
        example_id=pa.string(),
        kind=pa.string(),
        prompt=pa.string(),
        completion=pa.string(),
        document_id=pa.string(),
        source_id=pa.string(),
        split_group=pa.string(),
        tokens=pa.int32(),
        trained_tokens=pa.int32(),
    ),
    Answer: _schema(
        question=pa.string(),
        key_fact=pa.string(),
        base_answer=pa.string(),
        tuned_answer=pa.string(),
        base_hit=pa.bool_(),
        tuned_hit=pa.bool_(),
    ),
}


class TableWriter:
    """Writes records of one type to a Parquet file, holding one row group at most.

    Use as a context manager. Empty tables are written too, so that a consumer always finds the
    file and its schema.
    """

    def __init__(self, path: Path, record: type) -> None:
        self._schema = SCHEMAS[record]
        self._writer = pq.ParquetWriter(
            path, self._schema, compression="zstd", compression_level=3, write_statistics=True
        )
        self._rows: list[dict[str, Any]] = []
        self.count = 0

    def write(self, record: Any) -> None:
        """Adds one record."""
        self._rows.append(vars(record))
        self.count += 1
        if len(self._rows) == ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            if exc[0] is None:
                self._flush()
        finally:
            self._writer.close()


def write_table(path: Path, record: type, records: Iterable[Any]) -> int:
    """Writes `records`, all of type `record`, to `path` and returns how many there were."""
    with TableWriter(path, record) as writer:
        for item in records:
            writer.write(item)
    return writer.count


def read_table(path: Path, record: type[T]) -> Iterator[T]:
    """Reads the records of `path` one by one, a row group's worth in memory at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROW_GROUP):
            for row in batch.to_pylist():
                yield record(**row)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Groups `items` into lists of `size`; the last may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
