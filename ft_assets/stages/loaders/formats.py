"""The formats that are read. Each has a row in FORMATS and a loader.

To add a format, write its loader (a function of path, settings and notes, in a module of this folder)
and add its row. Endings, engines, tool versions and messages follow from the row.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ft_assets.stages.loaders.interface import Item, Notes, UnreadableError

if TYPE_CHECKING:
    from ft_assets.config import LoaderSettings

Loader = Callable[[Path, "LoaderSettings", Notes], Iterator[Item]]


@dataclass(frozen=True)
class Format:
    """One format.

    `media_type` is its name in the tables. `engines` are tried in order, except that the setting
    `data.loaders.<media_type>` names the first. `loader` is a function in the module `module`, which is
    imported before parser processes are forked, so that they share it. `tools` are the distributions
    whose versions decide whether a file must be read again.
    """

    media_type: str
    endings: tuple[str, ...]
    engines: tuple[str, ...]
    module: str
    loader: str
    tools: tuple[str, ...]

    def load(self) -> Loader:
        """The loader, imported."""
        loader: Loader = getattr(
            import_module(f"ft_assets.stages.loaders.{self.module}"), self.loader
        )
        return loader


_GUESSED = ("charset-normalizer",)
_RECORDS = ("records.load", "load_records", _GUESSED)
"""One loader for all files of records, which finds out what a file is by what is in it."""
FORMATS = (
    Format("pdf", (".pdf",), ("pypdfium2", "pypdf"), "pdf", "load_pdf", ("pypdfium2", "pypdf")),
    Format("docx", (".docx",), ("lxml", "docx2txt"), "docx", "load_docx", ("lxml", "docx2txt")),
    Format("text", (".txt",), ("text",), "text", "load_text", _GUESSED),
    Format("markdown", (".md", ".markdown"), ("text",), "text", "load_markdown", _GUESSED),
    Format("json", (".json", ".json.gz"), ("json",), *_RECORDS),
    Format("jsonl", (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz"), ("json",), *_RECORDS),
    Format("csv", (".csv", ".csv.gz"), ("csv",), *_RECORDS),
    Format("tsv", (".tsv", ".tsv.gz"), ("csv",), *_RECORDS),
    Format("parquet", (".parquet",), ("parquet",), *_RECORDS),
)
UNKNOWN = "unknown"
"""The media type of a file that is not read."""


@cache
def _by_ending() -> dict[str, Format]:
    return {ending: each for each in FORMATS for ending in each.endings}


@cache
def _by_media_type() -> dict[str, Format]:
    return {each.media_type: each for each in FORMATS}


def endings() -> list[str]:
    """The file endings that are read."""
    return list(_by_ending())


def tools() -> list[str]:
    """The distributions that read files, each once."""
    return list(dict.fromkeys(name for each in FORMATS for name in each.tools))


def media_type_of(name: str) -> str:
    """The media type of a file by its ending; UNKNOWN if files of this ending are not read."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes[-2:]]
    found = _by_ending().get("".join(suffixes)) or _by_ending().get("".join(suffixes[-1:]))
    return found.media_type if found else UNKNOWN


def holds_records(media_type: str) -> bool:
    """Whether files of a media type hold records, and mostly no prose."""
    found = _by_media_type().get(media_type)
    return found is not None and found.module == _RECORDS[0]


def engines_of(media_type: str, settings: "LoaderSettings") -> list[str]:
    """The engines of a media type; the engine that the settings name is first."""
    first = getattr(settings, media_type, None)
    return sorted(_by_media_type()[media_type].engines, key=lambda engine: engine != first)


def load(path: Path, media_type: str, settings: "LoaderSettings", notes: Notes) -> Iterator[Item]:
    """Reads one file with the engine that `notes` names.

    Raises UnreadableError if that engine finds nothing usable.
    """
    if path.stat().st_size == 0:
        raise UnreadableError("it is empty (0 bytes)", final=True)
    return _by_media_type()[media_type].load()(path, settings, notes)


def preload(media_type: str) -> None:
    """Imports the loader of a media type, so that forked processes share it."""
    if found := _by_media_type().get(media_type):
        found.load()
