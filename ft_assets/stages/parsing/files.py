"""One file parsed: its rows go to a file on disk, and what is said of them is small.

So neither the process that parses nor the one that asked for it holds a document's rows. The id of
a text is known when all of it has been read, so it is not in the rows: `spooled` has the reader.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ft_assets.records import PAGE_BREAK, Document, InstructionRecord, KeyCount, Quality
from ft_assets.stages.loaders.formats import load
from ft_assets.stages.loaders.interface import Item, Notes, Page, UnreadableError, loader_settings
from ft_assets.stages.parsing.row_spool import DiskError, RowSpool, SpooledRows
from ft_assets.stages.parsing.text_quality import Meter

if TYPE_CHECKING:
    from ft_assets.config import LoaderSettings

_TABLES: dict[str, type] = {
    "documents": Document,
    "records": InstructionRecord,
    "quality": Quality,
}


@dataclass(frozen=True)
class Task:
    """A file to be parsed by one engine; rows go to files in `scratch`, named for `owner`."""

    path: Path
    media_type: str
    settings: "LoaderSettings"
    scratch: Path
    engine: str = ""
    owner: str = ""

    def to_json(self) -> bytes:
        """The task as one line."""
        return (
            json.dumps({**vars(self), "settings": vars(self.settings)}, default=str).encode()
            + b"\n"
        )

    @classmethod
    def from_json(cls, line: bytes) -> "Task":
        """Reads what `to_json` wrote."""
        content = json.loads(line)
        paths = {name: Path(content[name]) for name in ("path", "scratch")}
        return cls(**{**content, **paths, "settings": loader_settings(content["settings"])})


@dataclass
class ParsedFile:
    """What one file holds, and what of it had to be left out.

    `batches` says where the rows of each table lie. `text_id` is None where nothing can be used.
    """

    media_type: str
    engine: str | None = None
    encoding: str | None = None
    text_id: str | None = None
    pages: int = 0
    records: int = 0
    characters: int = 0
    pages_without_text: int = 0
    rejected: list[str] = field(default_factory=list)
    records_rejected: int = 0
    unused_keys: list[KeyCount] = field(default_factory=list)
    batches: dict[str, list[SpooledRows]] = field(default_factory=dict)


def parse(task: Task) -> ParsedFile:
    """Parses a file with the engine of the task.

    Raises UnreadableError for whatever is in the file, MemoryError where it needs too much, and DiskError
    where rows cannot be written.
    """
    notes = Notes(task.scratch, task.engine)
    rows = _Rows(task)
    try:
        for item in load(task.path, task.media_type, task.settings, notes):
            rows.add(item)
        return rows.parsed(notes)
    except (UnreadableError, MemoryError, DiskError):
        raise
    except OSError as error:
        raise UnreadableError(
            f"it cannot be read ({error.strerror or error})", final=True
        ) from error
    except Exception as error:  # an engine that raises what it should not
        reason = f"{task.engine} cannot read it ({type(error).__name__}: {error})"
        raise UnreadableError(reason) from error


class _Rows:
    """Takes what a loader yields, and makes of it the rows and the digest of one text."""

    def __init__(self, task: Task) -> None:
        self._spools = {
            name: RowSpool(task.scratch / f"{name}-{task.owner}", record)
            for name, record in _TABLES.items()
        }
        self._digest = hashlib.sha256()
        self._meter = Meter()
        self._pages = self._records = self._start = self._characters = 0

    def add(self, item: Item) -> None:
        if isinstance(item, Page):
            self._add_page(item)
        else:
            self._records += 1
            self._add_digest("record", str(item.number), item.record_id)
            self._spools["records"].put(vars(item))

    def _add_page(self, page: Page) -> None:
        self._pages += 1
        start, end = self._start, self._start + len(page.text)
        headings = [{**heading, "start": start + heading["start"]} for heading in page.headings]
        kind = "sample" if page.sample else "page"
        self._add_digest(kind, json.dumps(headings), page.text)
        row = {"page": self._pages, "text": page.text, "start": start, "end": end}
        row |= {"headings": headings, "sample": page.sample}
        self._spools["documents"].put(row, size=len(page.text))
        self._meter.add(page.text)
        self._start = end + len(PAGE_BREAK)
        self._characters += len(page.text)

    def _add_digest(self, *parts: str) -> None:
        """Each part with its length, so that no two sequences of parts look alike."""
        for part in parts:
            content = part.encode("utf-8", "surrogatepass")
            self._digest.update(b"%d:" % len(content))
            self._digest.update(content)

    def parsed(self, notes: Notes) -> ParsedFile:
        """What was taken; the rows are on disk."""
        found = bool(self._pages or self._records)
        text_id = self._digest.hexdigest()[:32] if found else None
        if text_id:
            self._spools["quality"].put(vars(self._meter.quality(text_id)))
        return ParsedFile(
            media_type="",
            engine=notes.engine,
            encoding=notes.encoding,
            text_id=text_id,
            pages=self._pages,
            records=self._records,
            characters=self._characters,
            pages_without_text=notes.pages_without_text,
            rejected=notes.reasons(),
            records_rejected=notes.records_rejected,
            unused_keys=notes.unused_keys(),
            batches={name: spool.close() for name, spool in self._spools.items()},
        )
