"""JSON and JSON Lines: instruction records, and texts, each with its place in the file."""

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
    """Yields what a JSON document holds."""
    text = decode_file(path, notes)
    if not text.strip():
        raise UnreadableError("it is empty", final=True)
    yield from _items(json_entries(text), notes)


def load_jsonl(path: Path, settings: "LoaderSettings", notes: Notes) -> Iterator[Item]:
    """Yields what the lines of a JSON Lines file hold; no more than a line is in memory."""
    notes.encoding = encoding_of(path)
    with path.open("rb") as file:
        lines = io.TextIOWrapper(file, notes.encoding, errors="replace", newline="\n")
        yield from _items(jsonl_entries(lines), notes)


def _items(entries: Iterable[Entry], notes: Notes) -> Iterator[Item]:
    """The records and texts of the entries; a bad one is noted with its line."""
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
