"""From one file to pages of text and to records: an engine a module, each a generator of items.

All of it runs in a parser process, which bounds time and memory: see `stages/parser_process.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ft_assets.records import Heading, InstructionRecord

MEDIA_TYPES = {
    ".pdf": "pdf",
    ".docx": "docx",
    ".txt": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".json": "json",
    ".jsonl": "jsonl",
}
"""The file endings that are read, and what each is called in the tables."""

ENGINES: dict[str, tuple[str, ...]] = {
    "pdf": ("pypdfium2", "pypdf"),
    "docx": ("lxml", "docx2txt"),
    "text": ("text",),
    "markdown": ("text",),
    "json": ("json",),
    "jsonl": ("json",),
}
"""The engines of each media type."""


class UnreadableError(Exception):
    """A file has no usable text; the message says why and what to do.

    A `final` one is true whatever the engine: no other is tried. `pages_without_text` counts the
    pages that hold a picture and no text.
    """

    def __init__(self, reason: str, *, final: bool = False, pages_without_text: int = 0) -> None:
        super().__init__(reason)
        self.final = final
        self.pages_without_text = pages_without_text


@dataclass(frozen=True)
class Settings:
    """`data.loaders`, as `config.LoaderSettings` has it: parser processes load no pydantic."""

    pdf: str
    docx: str
    dehyphenate: bool
    strip_headers: bool
    ocr: bool
    max_seconds: int
    max_memory_mb: int
    max_archive_members: int
    max_unpacked_mb: int
    max_expansion: int


@dataclass
class Page:
    """The text of one page or section; its headings' starts count from the page's own."""

    text: str
    headings: list[Heading] = field(default_factory=list)


MAX_REASONS = 1_000
"""Reasons that are kept of one file: a table of another kind would have one in every line."""


@dataclass
class Notes:
    """What an engine has to say of a file besides its items.

    `scratch` is a folder for what it has to write. `rejected` says what of the file was left out.
    """

    scratch: Path
    engine: str
    encoding: str | None = None
    rejected: list[str] = field(default_factory=list)
    rejects: int = 0
    pages_without_text: int = 0

    def reject(self, reason: str) -> None:
        """Notes a part that cannot be used."""
        self.rejects += 1
        if self.rejects <= MAX_REASONS:
            self.rejected.append(reason)

    def reasons(self) -> list[str]:
        """Why parts were left out; what goes beyond MAX_REASONS is a number."""
        more = self.rejects - len(self.rejected)
        return (
            [*self.rejected, f"and {more:,} more parts cannot be used"] if more else self.rejected
        )


Item = Page | InstructionRecord


def media_type_of(name: str) -> str:
    """What a file is by its ending; `unknown` for one that is not read."""
    return MEDIA_TYPES.get(Path(name).suffix.lower(), "unknown")


def engines_of(media_type: str, settings: dict[str, object]) -> list[str]:
    """The engines of a media type, the one that the settings name first."""
    first = settings.get(media_type)
    return sorted(ENGINES[media_type], key=lambda engine: engine != first)


def load(path: Path, media_type: str, settings: Settings, notes: Notes) -> Iterator[Item]:
    """What one file holds, by the engine that `notes` names.

    Raises UnreadableError where that engine finds nothing to use.
    """
    if path.stat().st_size == 0:
        raise UnreadableError("it is empty (0 bytes)", final=True)
    if media_type == "pdf":
        from ft_assets.stages.loaders.pdf import load_pdf

        return load_pdf(path, settings, notes)
    if media_type == "docx":
        from ft_assets.stages.loaders.docx import load_docx

        return load_docx(path, settings, notes)
    if media_type in ("json", "jsonl"):
        from ft_assets.stages.loaders.json_records import load_json, load_jsonl

        return (load_json if media_type == "json" else load_jsonl)(path, notes)
    from ft_assets.stages.loaders.text import load_text

    return load_text(path, notes, markdown=media_type == "markdown")


def preload(media_type: str) -> None:
    """Imports what most files of a media type need, so that forked processes share it."""
    if media_type == "pdf":
        import ft_assets.stages.loaders.pdf
    elif media_type == "docx":
        import ft_assets.stages.loaders.docx
    elif media_type != "unknown":
        import ft_assets.stages.loaders.json_records
        import ft_assets.stages.loaders.text  # noqa: F401


def clean(text: str) -> str:
    """Line ends become newlines, NULs go, and halves of surrogate pairs become U+FFFD."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
