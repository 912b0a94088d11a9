"""The record types that flow through the stages, and their Arrow schemas.

Everything tabular in the project is Parquet written and read here: zstd level 3, bounded row
groups, one schema a table. No other module chooses a compression or a row group size.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby, islice
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

    `text_id` is the digest of all that was read out of the document, not of its bytes: a file saved
    anew with the same text changes no row. Manifests' sources say which files a text stands in.
    `start` and `end` are character offsets into the document's whole text, which is its rows'
    texts joined by `PAGE_BREAK`. `page` counts from 1; a format without pages has one row, page 1.
    """

    text_id: str
    page: int
    text: str
    start: int
    end: int


PAGE_BREAK = "\n\n"
"""What stands between two pages in a document's whole text."""


@dataclass(frozen=True)
class InstructionRecord:
    """One conversation found in a JSON file; its last message is the assistant's.

    `number` counts the entries of the file from 1. `input` is the second field of Alpaca records (the text an instruction is about), kept apart
    from `messages` because the Alpaca template has a place of its own for it.
    """

    record_id: str
    text_id: str
    number: int
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
    text_id: str
    page: int
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class QAPair:
    """A question and its answer, made from one chunk, with the words of the chunk that prove it.

    `pair_id` is a digest of all the rest but the request.
    """

    pair_id: str
    question: str
    answer: str
    evidence: str
    chunk_id: str
    text_id: str
    request_id: str


@dataclass(frozen=True)
class Example:
    """One training row, rendered: the loss is taken on `completion` alone.

    `kind` is where it came from: an instruction `record`, a `qa` pair, or a chunk's `text` (whose
    prompt is the begin-of-sequence token or empty). `source_id` is the id of that record, pair or
    chunk; `split_group` is the unit that never stands on both sides of the split. `cut_tokens` are
    those that `training.max_length` cuts off; `tokens` does not count them.
    """

    example_id: str
    kind: Literal["record", "qa", "text"]
    prompt: str
    completion: str
    text_id: str
    source_id: str
    split_group: str
    tokens: int
    trained_tokens: int
    cut_tokens: int


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
        "text_id": "string",
        "page": "int32",
        "text": "large_string",
        "start": "int64",
        "end": "int64",
    },
    InstructionRecord: {
        "record_id": "string",
        "text_id": "string",
        "number": "int32",
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
        "text_id": "string",
        "page": "int32",
        "start": "int64",
        "end": "int64",
        "text": "string",
    },
    QAPair: {
        "pair_id": "string",
        "question": "string",
        "answer": "string",
        "evidence": "string",
        "chunk_id": "string",
        "text_id": "string",
        "request_id": "string",
    },
    Example: {
        "example_id": "string",
        "kind": "string",
        "prompt": "string",
        "completion": "string",
        "text_id": "string",
        "source_id": "string",
        "split_group": "string",
        "tokens": "int32",
        "trained_tokens": "int32",
        "cut_tokens": "int32",
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


def to_table(record: type, records: Iterable[Any]) -> "pa.Table":
    """Records of one type as an Arrow table."""
    import pyarrow as pa

    return pa.Table.from_pylist([vars(item) for item in records], schema=schema_of(record))


class TableWriter:
    """Writes records of one type to a Parquet file, holding about one row group.

    Use as a context manager. Empty tables are written too, so that a consumer always finds the
    file and its schema. The bytes depend on the rows alone, not on how they came in.
    """

    def __init__(self, path: Path, record: type) -> None:
        import pyarrow.parquet as pq

        self._record = record
        self._writer = pq.ParquetWriter(
            path,
            schema_of(record),
            compression="zstd",
            compression_level=3,
            write_statistics=True,
        )
        self._rows: list[Any] = []
        self._tables: list[pa.Table] = []
        self.count = 0
        self._written = 0

    def write(self, record: Any) -> None:
        """Adds one record."""
        self._rows.append(record)
        self.count += 1
        self._flush(ROW_GROUP)

    def add(self, table: "pa.Table") -> None:
        """Adds the rows of a table of this writer's schema."""
        self._take_rows()
        self._tables.append(table)
        self.count += len(table)
        self._flush(ROW_GROUP)

    def _take_rows(self) -> None:
        if self._rows:
            self._tables.append(to_table(self._record, self._rows))
            self._rows = []

    def _flush(self, size: int) -> None:
        """Writes whole row groups while `size` rows wait. One chunk a column: the layout of
        what came in would show in the bytes else."""
        import pyarrow as pa

        while self.count - self._written >= size:
            self._take_rows()
            waiting = pa.concat_tables(self._tables)
            group = waiting.slice(0, ROW_GROUP)
            self._writer.write_table(group.combine_chunks(), row_group_size=ROW_GROUP)
            self._written += len(group)
            self._tables = [waiting.slice(ROW_GROUP)] if len(waiting) > ROW_GROUP else []

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            if exc[0] is None and self.count > self._written:
                self._flush(1)
        finally:
            self._writer.close()


def write_table(path: Path, record: type, records: Iterable[Any]) -> int:
    """Writes `records`, all of type `record`, to `path` and returns how many there were."""
    with TableWriter(path, record) as writer:
        for item in records:
            writer.write(item)
    return writer.count


def from_table(table: "pa.Table", record: type[T]) -> list[T]:
    """The rows of an Arrow table as records."""
    return [record(**row) for row in table.to_pylist()]


def values(table: "pa.Table", column: str) -> list[Any]:
    """The values of one column."""
    return list(table[column].to_pylist())


def read_table(path: Path, record: type[T]) -> Iterator[T]:
    """Reads the records of `path` one by one, a row group's worth in memory at a time."""
    for table in read_batches(path):
        yield from from_table(table, record)


def read_batches(path: Path, columns: list[str] | None = None) -> Iterator["pa.Table"]:
    """Reads a table a row group's worth at a time, or just some of its columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROW_GROUP, columns=columns):
            yield pa.Table.from_batches([batch])


def read_texts(path: Path) -> Iterator[tuple[str, "pa.Table"]]:
    """Reads a table a text at a time: each `text_id` with its rows, which stand together."""
    import pyarrow as pa

    waiting: list[pa.Table] = []
    last = None
    for table in read_batches(path):
        for text_id, start, end in _runs(values(table, "text_id")):
            if waiting and text_id != last:
                yield str(last), pa.concat_tables(waiting)
                waiting = []
            waiting.append(table.slice(start, end - start))
            last = text_id
    if waiting:
        yield str(last), pa.concat_tables(waiting)


def _runs(values: list[str]) -> Iterator[tuple[str, int, int]]:
    """Each run of equal values, with where it starts and ends."""
    start = 0
    for value, run in groupby(values):
        end = start + sum(1 for _ in run)
        yield value, start, end
        start = end


class TextRows:
    """The rows of each text in a table, asked for in rising order of `text_id`.

    All tables that have a `text_id` are sorted by it, so that one pass serves.
    """

    def __init__(self, path: Path | None) -> None:
        self._rows = read_texts(path) if path else iter(())
        self._next = next(self._rows, None)

    def take(self, text_id: str) -> "pa.Table | None":
        """The rows of one text; None where the table has none."""
        while self._next and self._next[0] < text_id:
            self._next = next(self._rows, None)
        if self._next and self._next[0] == text_id:
            return self._next[1]
        return None


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Groups `items` into lists of `size`; the last may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
