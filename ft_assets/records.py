"""The record types that flow through the stages, and their Arrow schemas.

Everything tabular in the project is Parquet written and read here: zstd level 3, bounded row
groups, one schema a table. No other module chooses a compression or a row group size.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

if TYPE_CHECKING:
    import pyarrow as pa

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


_COLUMNS: dict[type, dict[str, str]] = {
    Document: {
        "document_id": "string",
        "page": "int32",
        "text": "large_string",
        "start": "int64",
        "end": "int64",
        "media_type": "string",
        "engine": "string",
        "encoding": "string",
    },
    InstructionRecord: {
        "record_id": "string",
        "document_id": "string",
        "line": "int32",
        "messages": "messages",
        "input": "string",
    },
    RejectedDocument: {
        "document_id": "string",
        "media_type": "string",
        "reason": "string",
    },
    Chunk: {
        "chunk_id": "string",
        "document_id": "string",
        "page": "int32",
        "start": "int64",
        "end": "int64",
        "text": "string",
    },
    QAPair: {
        "question": "string",
        "answer": "string",
        "evidence": "string",
        "chunk_id": "string",
        "document_id": "string",
        "request_id": "string",
    },
    Example: {
        "example_id": "string",
        "kind": "string",
        "prompt": "string",
        "completion": "string",
        "document_id": "string",
        "source_id": "string",
        "split_group": "string",
        "tokens": "int32",
        "trained_tokens": "int32",
    },
    Answer: {
        "question": "string",
        "key_fact": "string",
        "base_answer": "string",
        "tuned_answer": "string",
        "base_hit": "bool",
        "tuned_hit": "bool",
    },
}
"""The Arrow type of each column, by pyarrow's alias; `messages` is a list of role and content."""


@cache
def schema_of(record: type) -> "pa.Schema":
    """The Arrow schema of a record type's table."""
    import pyarrow as pa

    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    return pa.schema(
        [
            (name, pa.list_(turn) if kind == "messages" else pa.type_for_alias(kind))  # type: ignore[call-overload]
            for name, kind in _COLUMNS[record].items()
        ]
    )


class TableWriter:
    """Writes records of one type to a Parquet file, holding one row group at most.

    Use as a context manager. Empty tables are written too, so that a consumer always finds the
    file and its schema.
    """

    def __init__(self, path: Path, record: type) -> None:
        import pyarrow.parquet as pq

        self._schema = schema_of(record)
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
        import pyarrow as pa

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
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROW_GROUP):
            for row in batch.to_pylist():
                yield record(**row)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Groups `items` into lists of `size`; the last may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
