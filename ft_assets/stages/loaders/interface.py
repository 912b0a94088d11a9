"""What a loader is given, what it yields and what it raises."""

from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ft_assets.records import Heading, InstructionRecord

if TYPE_CHECKING:
    from ft_assets.config import LoaderSettings


class UnreadableError(Exception):
    """A file has no usable text; the message says why and what to do.

    A `final` one is true whatever the engine: no other is tried. `pages_without_text` counts the
    pages that hold a picture and no text.
    """

    def __init__(self, reason: str, *, final: bool = False, pages_without_text: int = 0) -> None:
        super().__init__(reason)
        self.final = final
        self.pages_without_text = pages_without_text


def loader_settings(values: Mapping[str, object]) -> "LoaderSettings":
    """`data.loaders` for a process that must not load pydantic: the same settings, frozen."""
    made = make_dataclass("LoaderSettings", values, frozen=True)(**values)
    return cast("LoaderSettings", made)


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


def clean(text: str) -> str:
    """Line ends become newlines, NULs go, and halves of surrogate pairs become U+FFFD."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
