"""Rows of texts, spooled to disk until all texts are known and can be written in order."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_assets.records import schema_of
from ft_assets.tables import Part, Rows, TextRows, TextWriter

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 2_000
_BATCH_SIZE = 4 * 2**20


class DiskError(Exception):
    """Rows cannot be written; `cause` is the system's error."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(frozen=True)
class SpooledRows:
    """Where some rows of one text lie."""

    path: str
    offset: int
    length: int
    rows: int


def _schema_without_id(record: type) -> "pa.Schema":
    schema = schema_of(record)
    return schema.remove(schema.get_field_index("text_id"))


class RowSpool:
    """Appends the rows of one text to a file, some at a time.

    Whatever an interrupted process left at the file's end is passed over: only what `close`
    returns is ever read.
    """

    def __init__(self, path: Path, record: type) -> None:
        self._path = path
        self._schema = _schema_without_id(record)
        self._rows: list[dict[str, object]] = []
        self._size = 0
        self._batches: list[SpooledRows] = []

    def put(self, row: dict[str, object], size: int = 1_000) -> None:
        """Puts a row by; `size` is about how much memory it takes."""
        self._rows.append(row)
        self._size += size
        if len(self._rows) >= _BATCH_ROWS or self._size >= _BATCH_SIZE:
            self._flush()

    def close(self) -> list[SpooledRows]:
        """Where the rows lie."""
        self._flush()
        return self._batches

    def _flush(self) -> None:
        import pyarrow as pa

        if not self._rows:
            return
        batch = pa.RecordBatch.from_pylist(self._rows, schema=self._schema)
        content = batch.serialize()
        try:
            with self._path.open("ab") as file:
                file.write(b"\0" * (-file.tell() % 64))
                offset = file.tell()
                file.write(content)
        except OSError as error:
            raise DiskError(error) from error
        self._batches.append(SpooledRows(str(self._path), offset, content.size, len(self._rows)))
        self._rows, self._size = [], 0


class _SpooledPart(Part):
    """A batch that lies on disk; it is mapped when its rows are asked for, and not held."""

    def __init__(self, text_id: str, batch: SpooledRows, record: type) -> None:
        self.path = None
        self._text_id, self._batch, self._record = text_id, batch, record

    def read(self, columns: list[str] | None = None) -> "pa.Table":
        """The rows with their text id."""
        import pyarrow as pa

        with pa.memory_map(self._batch.path) as file:
            file.seek(self._batch.offset)
            buffer = file.read_buffer(self._batch.length)
        batch = pa.ipc.read_record_batch(buffer, _schema_without_id(self._record))
        schema = schema_of(self._record)
        place = schema.get_field_index("text_id")
        ids = pa.repeat(self._text_id, batch.num_rows)
        table = pa.Table.from_batches([batch]).add_column(place, schema.field(place), ids)
        return table.select(columns) if columns else table

    def table(self) -> "pa.Table":
        """All of it."""
        return self.read()

    def values(self, column: str) -> list[Any]:
        """The values of one column."""
        return list(self.read([column])[column].to_pylist())

    def __len__(self) -> int:
        return self._batch.rows


def spooled_rows(text_id: str, batches: list[SpooledRows], record: type) -> Iterator[Rows]:
    """The rows of one text; they are read when they are used."""
    for batch in batches:
        yield Rows(_SpooledPart(text_id, batch, record), 0, batch.rows)


def write_texts(
    texts: list[str],
    spooled: dict[str, list[SpooledRows]],
    previous: Path | None,
    output: Path,
    record: type,
) -> int:
    """Writes the rows of `texts`, which are in order, from the table `previous` or from what was spooled.

    Returns their number.
    """
    known = TextRows(previous)
    with TextWriter(output, record) as writer:
        for text_id in texts:
            if rows := known.take(text_id):
                writer.add(text_id, rows)
            elif batches := spooled.get(text_id):
                writer.add(text_id, spooled_rows(text_id, batches, record))
    return writer.count
