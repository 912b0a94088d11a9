"""Loads a file of records; what the file is, its content says."""

import io
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ft_assets.records import InstructionRecord
from ft_assets.stages.loaders.interface import Item, Notes, Page, UnreadableError
from ft_assets.stages.loaders.records.entries import BadRecordError, Entry
from ft_assets.stages.loaders.records.json_values import json_entries
from ft_assets.stages.loaders.records.packed import GZIP, Bytes
from ft_assets.stages.loaders.records.readers import read_value
from ft_assets.stages.loaders.records.spelling import columns_have_format
from ft_assets.stages.loaders.records.tables import (
    check_columns,
    columns_of,
    csv_entries,
    parquet_entries,
)
from ft_assets.stages.loaders.records.wrappers import unwrapped
from ft_assets.stages.loaders.text import encoding_of

if TYPE_CHECKING:
    from ft_assets.config import LoaderSettings

_PARQUET = b"PAR1"
_POINTER = b"version https://git-lfs"
_SPACE = string.whitespace + "\ufeff\x1e"


def load_records(path: Path, settings: "LoaderSettings", notes: Notes) -> Iterator[Item]:
    """Yields the records and texts of a file; each entry that is neither is rejected with its place."""
    content = Bytes(path, settings.max_unpacked_mb)
    number = 0
    for entry in _entries(path, content, notes):
        for each in unwrapped(entry):
            number += 1 if each.lost else 0
            yield from _read(each, number, notes)
    if content.damage:
        why = f"its gzip data is damaged after record {number:,} ({content.damage})"
        if not number:
            raise UnreadableError(why, final=True)
        notes.reject(f"{why}: what follows was not read")
    if not number and not notes.rejects:
        raise UnreadableError("it holds no records", final=True)


def _read(entry: Entry, number: int, notes: Notes) -> Iterator[Item]:
    try:
        if entry.problem:
            raise BadRecordError(entry.problem)
        read = read_value(entry.value, number)
    except BadRecordError as bad:
        record = [f"record {number:,}"] if entry.lost else []
        line = [] if entry.line is None else [f"line {entry.line}"]
        notes.reject_records(f"{', '.join([*line, *record])}: {bad}", entry.lost)
        return
    notes.count_unused(read.unused)
    yield read.found if isinstance(read.found, InstructionRecord) else Page(read.found, sample=True)


def _entries(path: Path, content: Bytes, notes: Notes) -> Iterator[Entry]:
    """The entries of a file, by what it begins with."""
    with content.open() as file:
        head = file.read(len(_POINTER))
    if head.startswith(_PARQUET):
        if content.is_packed:
            raise UnreadableError("it is a Parquet file inside gzip: unpack it", final=True)
        return parquet_entries(path)
    if content.is_packed and head.startswith(GZIP):
        raise UnreadableError("it is gzip inside gzip: unpack it", final=True)
    if head.startswith(_POINTER):
        reason = "it is a Git LFS pointer, not the file: run `git lfs pull`"
        raise UnreadableError(reason, final=True)
    encoding = notes.encoding = encoding_of(content.open)

    def opens() -> TextIO:
        return io.TextIOWrapper(content.open(), encoding, errors="replace", newline="")

    return _text_entries(opens, is_table=notes.engine == "csv", is_tabbed=".tsv" in path.suffixes)


def _text_entries(
    opens: Callable[[], TextIO], *, is_table: bool, is_tabbed: bool
) -> Iterator[Entry]:
    """The entries of a text: a table if its first line names record columns, else JSON."""
    first = _first_character(opens)
    if not first:
        raise UnreadableError("it is empty", final=True)
    if first not in "[{" and (is_table or first != '"'):
        delimiter, names = columns_of(opens, "\t" if is_tabbed else ",")
        if is_table:
            check_columns(names)
        if is_table or columns_have_format(names):
            with opens() as text:
                yield from csv_entries(text, delimiter, names)
            return
    yield from json_entries(opens, first)


def _first_character(opens: Callable[[], TextIO]) -> str:
    with opens() as text:
        while piece := text.read(1 << 16):
            if found := piece.lstrip(_SPACE):
                return found[0]
    return ""
