"""Reads and writes all tables of the project, as Parquet.

They have zstd level 3, bounded row groups and one schema per table. No other module chooses a
compression or a row group size. A table whose rows belong to texts is a folder of files, any other is a
single file; Parquet readers accept both.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ft_assets.files import link_or_copy
from ft_assets.records import schema_of

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

T = TypeVar("T")

ROW_GROUP = 2_000
"""The most rows in a row group, and so in a reader's memory."""

_LONG = {
    "text",
    "segments",
    "messages",
    "headings",
    "asks",
    "answers",
    "minhash",
    "ngrams",
    "document_id",
    "path",
    "rejected",
}
"""Columns without dictionary and statistics: their values rarely repeat and are not searched."""


_THREADS = "OPENBLAS_NUM_THREADS"


class _NoPandas:
    """Makes an import of pandas fail."""

    @staticmethod
    def find_spec(name: str, *more: object) -> None:
        if name == "pandas":
            raise ImportError(name)


def load_lean_pyarrow() -> None:
    """Imports pyarrow, and with it numpy, without pandas and without threads.

    pyarrow would import pandas only to check for pandas objects, which takes 0.3 s of CPU time. numpy's
    OpenBLAS would start threads for matrix operations that we do not use: 0.05 s. Later code can still
    use pyarrow with pandas.
    """
    if "pandas" in sys.modules:
        return
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = before or "1"
    sys.meta_path.insert(0, _NoPandas)
    try:
        import pyarrow as pa

        pa.array([None])  # pyarrow looks for pandas only once, at the first conversion
    finally:
        sys.meta_path.remove(_NoPandas)
        if before is None:  # children inherit the user's own setting
            del os.environ[_THREADS]


def to_table(record: type, records: Iterable[Any]) -> "pa.Table":
    """Converts records of one type to an Arrow table."""
    import pyarrow as pa

    return pa.Table.from_pylist([vars(item) for item in records], schema=schema_of(record))


def _writer(path: Path, record: type) -> "pq.ParquetWriter":
    import pyarrow.parquet as pq

    columns = schema_of(record).names
    short = [name for name in columns if name not in _LONG]
    return pq.ParquetWriter(
        path,
        schema_of(record),
        compression="zstd",
        compression_level=3,
        use_dictionary=short,  # type: ignore[arg-type]  # the stubs know a bool only
        write_statistics=short,
    )


def write_table(path: Path, record: type, records: Iterable[Any]) -> int:
    """Writes `records`, all of type `record`, to one file and returns their number.

    An empty table is written too, so that a reader always finds the file and its schema.
    """
    count = 0
    with _writer(path, record) as writer:
        for batch in batched(records, ROW_GROUP):
            writer.write_table(to_table(record, batch))
            count += len(batch)
    return count


def files_of(path: Path) -> list[Path]:
    """The files of a table: the single file, or the parts of a folder in order."""
    return sorted(path.glob(_PART.format("*"))) if path.is_dir() else [path]


def read_batches(path: Path, columns: list[str] | None = None) -> Iterator["pa.Table"]:
    """Reads a table, or only some of its columns, ROW_GROUP rows at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in files_of(path):
        with pq.ParquetFile(name) as file:
            for batch in file.iter_batches(ROW_GROUP, columns=columns):
                yield pa.Table.from_batches([batch])


def count_rows(path: Path) -> int:
    """The number of rows of a table, from the ends of its files."""
    import pyarrow.parquet as pq

    return sum(int(pq.read_metadata(name).num_rows) for name in files_of(path))


def read_table(path: Path, record: type[T]) -> Iterator[T]:
    """Reads the records of a table one by one, with ROW_GROUP rows in memory at a time."""
    for table in read_batches(path):
        for row in table.to_pylist():
            yield record(**row)


def values(table: "pa.Table", column: str) -> list[Any]:
    """The values of one column."""
    return list(table[column].to_pylist())


_PART = "part-{}.parquet"
_PART_ROWS = 256
"""The average number of rows in a part. An edit rewrites two parts of each table, so this bounds the cost
of an edit; half of it would save a tenth of that and double the number of files."""
_PART_MAX_ROWS = 8_000


class Part:
    """Rows in one file, or in memory; of a file only the requested columns are read.

    They are cached until `forget`, because several texts may have rows in this part. `columns` are the
    columns whose values will be requested: they are read together.
    """

    def __init__(self, source: "Path | pa.Table", columns: Iterable[str] = ()) -> None:
        self.path = source if isinstance(source, Path) else None
        self._table: pa.Table | None = None if isinstance(source, Path) else source
        self._columns = ["text_id", *columns]
        self._values: dict[str, list[Any]] = {}
        self._runs: list[tuple[str, int, int]] | None = None

    def read(self, columns: list[str] | None = None) -> "pa.Table":
        """Reads all or some columns, without caching them."""
        import pyarrow.parquet as pq

        if self._table is not None:
            return self._table
        with pq.ParquetFile(str(self.path), memory_map=True) as file:
            return file.read(columns, use_threads=False)  # parts are small

    def table(self) -> "pa.Table":
        """All rows, cached."""
        if self._table is None:
            self._table = self.read()
        return self._table

    def values(self, column: str) -> list[Any]:
        """The values of one column."""
        if column not in self._values:
            wanted = self._columns if column in self._columns else [column]
            table = self.read(wanted)
            self._values |= {name: values(table, name) for name in wanted}
        return self._values[column]

    def runs(self) -> list[tuple[str, int, int]]:
        """The texts that have rows in this part, each with the start and end of its rows."""
        if self._runs is None:
            self._runs, start = [], 0
            for text_id, run in groupby(self.values("text_id")):
                end = start + sum(1 for _ in run)
                self._runs.append((text_id, start, end))
                start = end
        return self._runs

    def __len__(self) -> int:
        if self._table is not None:
            return len(self._table)
        return self.runs()[-1][2] if self.runs() else 0

    def forget(self) -> None:
        """Clears the cache of a file."""
        if self.path:
            self._table, self._values = None, {}


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of a part: those in [`start`, `end`)."""

    part: Part
    start: int
    end: int

    @classmethod
    def of(cls, table: "pa.Table") -> "Rows":
        """All rows of a table."""
        return cls(Part(table), 0, len(table))

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def are_whole(self) -> bool:
        """Whether these are all rows of their part; then no other text needs the part's cache."""
        return len(self) == len(self.part)

    def table(self) -> "pa.Table":
        """The rows as a table."""
        if self.are_whole:
            return self.part.read()
        return self.part.table().slice(self.start, len(self))

    def values(self, column: str) -> list[Any]:
        """The values of one column."""
        return self.part.values(column)[self.start : self.end]

    def piece(self, start: int, end: int) -> "Rows":
        """The rows in [`start`, `end`), counted from the first of these."""
        return Rows(self.part, self.start + start, self.start + end)


def from_rows(rows: Iterable[Rows], record: type[T]) -> Iterator[T]:
    """Converts rows to records, one by one."""
    for some in rows:
        for batch in some.table().to_batches(ROW_GROUP):
            for row in batch.to_pylist():
                yield record(**row)


def read_texts(path: Path) -> Iterator[tuple[str, list[Rows]]]:
    """The rows of each text of a table that a TextWriter wrote, in order of `text_id`."""
    for text_id, runs in groupby(read_runs(path), key=itemgetter(0)):
        yield text_id, [rows for _, rows in runs]


def read_runs(path: Path, columns: Iterable[str] = ()) -> Iterator[tuple[str, Rows]]:
    """The runs of rows of one text in each part; a large text has rows in several parts.

    `columns` are the columns whose values will be requested.
    """
    for name in files_of(path):
        part = Part(name, columns)
        for text_id, start, end in part.runs():
            yield text_id, Rows(part, start, end)
        part.forget()  # rows that are still used are read again


class TextRows:
    """The rows of each text in a table, requested in ascending order of `text_id`."""

    def __init__(self, path: Path | None) -> None:
        self._texts = read_texts(path) if path else iter(())
        self._next = next(self._texts, None)

    def take(self, text_id: str) -> list[Rows]:
        """The rows of one text; [] if the table has none."""
        while self._next and self._next[0] < text_id:
            self._next = next(self._texts, None)
        return self._next[1] if self._next and self._next[0] == text_id else []


class TextWriter:
    """Writes the rows of texts, in ascending order of `text_id`, to a folder of Parquet files.

    Where a file ends depends only on the text there; a text with many rows is split over several files.
    So after a change most files are identical to earlier ones: these are hard-linked from the table
    that the rows came from, and neither read nor written. The bytes depend only on the rows, not on
    how they were added. Use it as a context manager.
    """

    def __init__(self, path: Path, record: type) -> None:
        path.mkdir()
        self._path, self._record = path, record
        self._waiting: list[Rows] = []
        self._waiting_rows = self._text_rows = self._parts = self.count = 0

    def add(self, text_id: str, rows: Iterable[Rows]) -> None:
        """Adds all rows of one text; `rows` is read lazily, so it may be a generator."""
        self.add_some(rows)
        self.end_text(text_id)

    def add_some(self, rows: Iterable[Rows]) -> None:
        """Adds some rows of a text; call `end_text` after the last ones."""
        for some in rows:
            self._text_rows += len(some)
            while len(some):
                room = _PART_MAX_ROWS - self._waiting_rows
                self._wait(some.piece(0, min(room, len(some))))
                some = some.piece(min(room, len(some)), len(some))
                if self._waiting_rows == _PART_MAX_ROWS:
                    self._end_part()

    def end_text(self, text_id: str) -> None:
        """Ends a text, and perhaps the part.

        Whether the part ends here depends only on this text: with a minimum of rows per part, an edit
        would also move the ends of later parts. The draw uses the id's last digits, because the texts
        of a part share the first ones.
        """
        drawn = int(text_id[-8:], 16) / 2**32
        if self._waiting and drawn * _PART_ROWS < self._text_rows:
            self._end_part()
        self._text_rows = 0

    def _wait(self, rows: Rows) -> None:
        last = self._waiting[-1] if self._waiting else None
        if last and last.part is rows.part and last.end == rows.start:
            self._waiting[-1] = Rows(last.part, last.start, rows.end)
        else:
            self._waiting.append(rows)
        self._waiting_rows += len(rows)
        self.count += len(rows)

    def _end_part(self) -> None:
        path = self._path / _PART.format(f"{self._parts:05}")
        self._parts += 1
        if not self._link_whole(path):
            self._write(path)
        self._waiting, self._waiting_rows = [], 0

    def _link_whole(self, path: Path) -> bool:
        """Links the earlier file if the waiting rows are exactly its rows; False if not."""
        if len(self._waiting) != 1 or not self._waiting[0].are_whole:
            return False
        earlier = self._waiting[0].part.path
        if earlier is None:
            return False
        link_or_copy(earlier, path)
        return True

    def _write(self, path: Path) -> None:
        """Writes the waiting rows, as one chunk per column: otherwise the bytes would depend on how they
        were added.
        """
        import pyarrow as pa

        tables = [rows.table() for rows in self._waiting]
        with _writer(path, self._record) as writer:
            if tables:
                table = pa.concat_tables(tables).combine_chunks()
                writer.write_table(table, row_group_size=ROW_GROUP)

    def __enter__(self) -> "TextWriter":
        return self

    def __exit__(self, *exc: object) -> None:
        if exc[0] is None and (self._waiting or not self._parts):
            self._end_part()


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Groups `items` into lists of `size`; the last may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
