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
FORMATS = (
    Format("pdf", (".pdf",), ("pypdfium2", "pypdf"), "pdf", "load_pdf", ("pypdfium2", "pypdf")),
    Format("docx", (".docx",), ("lxml", "docx2txt"), "docx", "load_docx", ("lxml", "docx2txt")),
    Format("text", (".txt",), ("text",), "text", "load_text", _GUESSED),
    Format("markdown", (".md", ".markdown"), ("text",), "text", "load_markdown", _GUESSED),
    Format("json", (".json",), ("json",), "json_records", "load_json", _GUESSED),
    Format("jsonl", (".jsonl",), ("json",), "json_records", "load_jsonl", _GUESSED),
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
    found = _by_ending().get(Path(name).suffix.lower())
    return found.media_type if found else UNKNOWN


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
