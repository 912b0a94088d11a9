"""Looks into a table without reading all of it: rows by their place, and places by what is in them."""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_assets.tables import files_of, load_lean_pyarrow

if TYPE_CHECKING:
    import pyarrow as pa

Mask = Callable[["pa.Table"], Any]
"""Says of each row of a table whether it is wanted, as an Arrow array."""


@dataclass(frozen=True)
class _Group:
    """A row group of one file: the place of its first row, and the first and last text in it."""

    path: Path
    number: int
    start: int
    rows: int
    texts: tuple[str, str] | None

    def may_have(self, text_ids: Collection[str] | None) -> bool:
        """Whether rows of one of these texts can be in it; None stands for any text."""
        if text_ids is None or self.texts is None:
            return True
        first, last = self.texts
        return any(first <= each <= last for each in text_ids)


class TableView:
    """The rows of a table by their place, counted from 0. Opening it reads only the files' footers."""

    def __init__(self, path: Path) -> None:
        load_lean_pyarrow()
        self._groups: list[_Group] = []
        self.rows = 0
        files = files_of(path)
        column = _column_of_texts(files[0])
        for name in files:
            for number, rows, texts in _footer(name, column):
                self._groups.append(_Group(name, number, self.rows, rows, texts))
                self.rows += rows

    def at(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """The rows at ascending places; only the row groups that they are in are read."""
        return [row for table in self._tables(places, None) for row in table.to_pylist()]

    def values(self, places: Sequence[int], column: str) -> list[Any]:
        """The values of one column at ascending places."""
        tables = self._tables(places, [column])
        return [value for table in tables for value in table[column].to_pylist()]

    def first(self, column: str, wanted: Collection[str]) -> list[int]:
        """The places where these values are first in a column; nothing is read beyond the last one."""
        missing, found = set(wanted), []
        for group in self._groups:
            if not missing:
                break
            for place, value in enumerate(_read(group, [column])[column].to_pylist(), group.start):
                if value in missing:
                    missing.remove(value)
                    found.append(place)
        return found

    def _tables(self, places: Sequence[int], columns: list[str] | None) -> "Iterator[pa.Table]":
        starts = [group.start for group in self._groups]
        for at, inside in groupby(places, key=lambda place: bisect_right(starts, place) - 1):
            group = self._groups[at]
            yield _read(group, columns).take([place - group.start for place in inside])

    def places(
        self, columns: list[str], mask: Mask, text_ids: Collection[str] | None = None
    ) -> Iterator[int]:
        """The places of the rows that `mask` wants, in order, with one row group in memory at a time.

        Only `columns` are read, and only where rows of `text_ids` can be.
        """
        import pyarrow.compute as pc

        for group in self._groups:
            if group.may_have(text_ids):
                wanted: Any = pc.indices_nonzero(mask(_read(group, columns)))
                for place in wanted.to_pylist():
                    yield group.start + place


def spread(count: int, most: int) -> list[int]:
    """At most so many of the numbers below `count`, evenly spread; always the same ones."""
    taken = min(count, most)
    return [number * count // taken for number in range(taken)]


def _column_of_texts(path: Path) -> int | None:
    """Where the ids of texts are among the columns of a file."""
    import pyarrow.parquet as pq

    schema = pq.read_metadata(path).schema
    names = (schema.column(number).path for number in range(len(schema)))
    return next((number for number, name in enumerate(names) if name == "text_id"), None)


def _footer(path: Path, column: int | None) -> Iterator[tuple[int, int, tuple[str, str] | None]]:
    """The number, the rows, and the first and last text of each row group of a file."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(path)
    for number in range(metadata.num_row_groups):
        group, texts = metadata.row_group(number), None
        statistics = None if column is None else group.column(column).statistics
        if statistics and statistics.has_min_max:
            texts = (str(statistics.min), str(statistics.max))
        yield number, group.num_rows, texts


def _read(group: _Group, columns: list[str] | None = None) -> "pa.Table":
    import pyarrow.parquet as pq

    with pq.ParquetFile(group.path) as file:
        return file.read_row_group(group.number, columns)
