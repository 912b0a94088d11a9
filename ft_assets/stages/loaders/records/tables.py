"""CSV, TSV and Parquet: each row is an entry, whose keys are the columns that have a value."""

import csv
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ft_assets.stages.loaders.interface import UnreadableError
from ft_assets.stages.loaders.records.entries import MAX_RECORD, TOO_LONG, Entry
from ft_assets.stages.loaders.records.spelling import columns_have_format

if TYPE_CHECKING:
    from pyarrow import RecordBatch

_DELIMITERS = (",", "\t", ";", "|")
_BUDGET = 64 * 2**20
"""The most characters that are read again after rows whose quotes do not match."""
_NO_COLUMNS = (
    "a table of records has the columns messages or conversations, a question and its answer "
    "(instruction + output with input, prompt + completion, question + answer and their like), or text"
)
_SHOWN = 8


def columns_of(opens: Callable[[], TextIO], first: str) -> tuple[str, list[str]]:
    """The delimiter and the column names of a CSV text, which has record columns or not.

    `first` is the delimiter to try first.
    """
    csv.field_size_limit(MAX_RECORD)
    with opens() as text:
        line = text.readline(_MAX_HEADER)
        while line and (not line.strip("\ufeff \t\r\n") or re.match("\ufeff?sep=.\\s*$", line)):
            line = text.readline(_MAX_HEADER)
    found = []
    for delimiter in sorted(_DELIMITERS, key=lambda each: each != first):
        names = [name.strip().strip("\ufeff") for name in _cells(line, delimiter)]
        if columns_have_format(names):
            return delimiter, names
        found.append((delimiter, names))
    return max(found, key=lambda each: len(each[1]))


_MAX_HEADER = 1 << 20


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line.strip("\ufeff\r\n")], delimiter=delimiter), [])
    except csv.Error:
        return []


def check_columns(names: list[str]) -> None:
    """Raises UnreadableError unless columns of these names hold records."""
    if columns_have_format(names):
        return
    shown = ", ".join(name[:40] or "(empty)" for name in names[:_SHOWN]) or "none"
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    raise UnreadableError(f"its columns are {shown}{more}: {_NO_COLUMNS}", final=True)


def csv_entries(text: TextIO, delimiter: str, names: list[str]) -> Iterator[Entry]:
    """The rows of a CSV text below its header; a row whose cells do not fit the columns is a problem."""
    lines = _Lines(text)
    rows = csv.reader(lines, delimiter=delimiter)
    keys = _distinct(names)
    below_header, budget = False, _BUDGET
    while True:
        start = lines.begin()
        try:
            cells = next(rows, None)
            if cells is None:
                return
            problem = lines.problem(delimiter) or _misfit(cells, keys)
        except csv.Error as error:
            cells, problem = [], TOO_LONG if "limit" in str(error) else f"no CSV ({error})"
        if not below_header:
            below_header = bool(cells) and [c.strip().strip("\ufeff") for c in cells] == names
        elif problem:
            budget -= lines.size if len(lines.held) > 1 else 0
            if budget < 0:
                left = lines.count_rest()
                rest = f"{problem}; the rest of the file was not read, {left:,} lines"
                yield Entry(start, problem=rest, lost=left)
                return
            lines.put_back()
            yield Entry(start, problem=problem)
        elif any(cells):
            there = zip(keys, cells, strict=False)
            yield Entry(start, {key: cell for key, cell in there if cell and cell not in _MISSING})


_MISSING = ("NaN", "nan")
"""What pandas writes for a cell that is missing, if asked for its text."""


def _distinct(names: list[str]) -> list[str]:
    """The names, those that occur again with a number, so that no cell replaces another."""
    seen: Counter[str] = Counter()
    keys = []
    for name in names:
        seen[name] += 1
        keys.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return keys


def _misfit(cells: list[str], keys: list[str]) -> str | None:
    """What is wrong with the number of cells of a row; empty rows, and empty cells at its end, are not."""
    if (
        not cells
        or len(cells) == len(keys)
        or (len(cells) > len(keys) and not any(cells[len(keys) :]))
    ):
        return None
    return f"it has {len(cells):,} of {len(keys):,} cells: check its quotes and separators"


class _Lines:
    """The lines of a text; those of the current row are held, so that they can be read again."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._back: deque[str] = deque()
        self._number = 0
        self._ended = self._is_too_long = False
        self.held: list[str] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else self._text.readline(MAX_RECORD + 1)
        if not line:
            self._ended = True
            raise StopIteration
        if len(line) > MAX_RECORD and not line.endswith(("\n", "\r")):
            self._is_too_long = True
            while (more := self._text.readline(1 << 20)) and not more.endswith(("\n", "\r")):
                pass
        self._number += 1
        self.held.append(line)
        return line

    @property
    def size(self) -> int:
        """The characters that are held."""
        return sum(map(len, self.held))

    def begin(self) -> int:
        """Begins a row; returns its line."""
        self.held, self._is_too_long = [], False
        return self._number + 1

    def problem(self, delimiter: str) -> str | None:
        """Why what was read is no row: a line is too long, or quotes do not match.

        Only of several lines, or at the end of the file, could a quote have taken in what it should not.
        """
        if self._is_too_long:
            return TOO_LONG
        if not (self._ended or len(self.held) > 1) or not any('"' in line for line in self.held):
            return None
        try:
            list(csv.reader(self.held, delimiter=delimiter, strict=True))
        except csv.Error as error:
            if len(self.held) > 1 or "unexpected end" in str(error):
                return "a quote in it is not closed, or one inside a cell is not doubled"
        return None

    def put_back(self) -> None:
        """Has the lines after the first of this row read again, as rows of their own."""
        self._back.extendleft(reversed(self.held[1:]))
        self._number -= len(self.held) - 1

    def count_rest(self) -> int:
        """The lines of this row and those that follow."""
        held = len(self.held) + len(self._back)
        return held + sum(1 for _ in iter(lambda: self._text.readline(1 << 20), ""))


_ROWS = 2_000
_BATCH = 8 * 2**20


def parquet_entries(path: Path) -> Iterator[Entry]:
    """The rows of a Parquet file. Raises UnreadableError if it has no record columns, or is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            check_columns(names)
            rows = file.metadata.num_rows
            groups = (file.metadata.row_group(n) for n in range(file.metadata.num_row_groups))
            size = sum(group.total_byte_size for group in groups)
            many = max(1, min(_ROWS, _BATCH * rows // max(1, size)))
            read = 0
            for batch in file.iter_batches(many, use_threads=False):
                yield from _rows_of(batch.rename_columns(_distinct(names)))
                read += len(batch)
    except (pa.ArrowException, OSError) as error:
        reason = f"its Parquet data is damaged ({str(error)[:200]})"
        raise UnreadableError(reason, final=True) from error


def _rows_of(batch: "RecordBatch") -> Iterator[Entry]:
    """The rows of a batch; one with a value that Python has no type for is a problem."""
    try:
        yield from [Entry(None, _without_nulls(row)) for row in batch.to_pylist()]
    except (ValueError, ArithmeticError):
        for place in range(batch.num_rows):
            try:
                [row] = batch.slice(place, 1).to_pylist()
                yield Entry(None, _without_nulls(row))
            except (ValueError, ArithmeticError) as error:
                yield Entry(None, problem=f"a value in it cannot be read ({str(error)[:100]})")


def _without_nulls(value: Any) -> Any:
    """A value without the keys that are null, nor not a number: a table has every key in every row.

    Bytes that are a text are one: some writers mark no column as text.
    """
    if isinstance(value, dict):
        items = ((key, _without_nulls(item)) for key, item in value.items())
        return {key: item for key, item in items if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return None if value != value else value
