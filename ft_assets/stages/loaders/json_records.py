"""JSON and JSON Lines: instruction records and texts, each with its position in the file."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ft_assets.records import InstructionRecord
from ft_assets.stages.loaders.instruction_records import (
    BadRecordError,
    Entry,
    json_entries,
    jsonl_entries,
    read_entry,
)
from ft_assets.stages.loaders.interface import Item, Notes, Page, UnreadableError, clean
from ft_assets.stages.loaders.text import decode_file, encoding_of

if TYPE_CHECKING:
    from ft_assets.config import LoaderSettings


def load_json(path: Path, settings: "LoaderSettings", notes: Notes) -> Iterator[Item]:
    """Yields the records and texts in a JSON document."""
    text = decode_file(path, notes)
    if not text.strip():
        raise UnreadableError("it is empty", final=True)
    yield from _items(json_entries(text), notes)


def load_jsonl(path: Path, settings: "LoaderSettings", notes: Notes) -> Iterator[Item]:
    """Yields the records and texts in a JSON Lines file, with one line in memory at a time."""
    notes.encoding = encoding_of(path)
    with path.open("rb") as file:
        lines = io.TextIOWrapper(file, notes.encoding, errors="replace", newline="\n")
        yield from _items(jsonl_entries(lines), notes)


def _items(entries: Iterable[Entry], notes: Notes) -> Iterator[Item]:
    """The records and texts of the entries; a bad entry is rejected with its line number."""
    empty = True
    for entry in entries:
        empty = False
        try:
            found = read_entry(entry)
        except BadRecordError as bad:
            notes.reject(f"{entry}: {bad}")
            continue
        yield found if isinstance(found, InstructionRecord) else Page(clean(found))
    if empty:
        raise UnreadableError("it holds no records", final=True)
