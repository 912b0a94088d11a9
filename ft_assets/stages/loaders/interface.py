"""The interface of loaders: what they receive, yield and raise."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ft_assets.records import Heading, InstructionRecord, KeyCount

if TYPE_CHECKING:
    from ft_assets.config import LoaderSettings


class UnreadableError(Exception):
    """A file has no usable text; the message says why and what to do.

    If it is `final`, no other engine is tried, because the reason does not depend on the engine.
    `pages_without_text` is the number of pages that have a picture and no text.
    """

    def __init__(self, reason: str, *, final: bool = False, pages_without_text: int = 0) -> None:
        super().__init__(reason)
        self.final = final
        self.pages_without_text = pages_without_text


def loader_settings(values: Mapping[str, object]) -> "LoaderSettings":
    """The settings `data.loaders` without pydantic, frozen: parser processes must start fast and small."""
    made = make_dataclass("LoaderSettings", values, frozen=True)(**values)
    return cast("LoaderSettings", made)


@dataclass
class Page:
    """The text of one page or section; the starts of its headings count from the start of the page.

    `sample` is true for a text of a file of records, which no chunk shares with another.
    """

    text: str
    headings: list[Heading] = field(default_factory=list)
    sample: bool = False


MAX_REASONS = 1_000
"""The most reasons kept per file: a JSON Lines file of another kind has one in every line."""

_MAX_KEYS = 50
_MAX_COUNTED = 5_000
_MAX_KEY = 80


@dataclass
class Notes:
    """What an engine reports about a file besides its items.

    `scratch` is a folder for temporary files. `rejected` are the reasons of the parts left out;
    `records_rejected` counts those that are records.
    """

    scratch: Path
    engine: str
    encoding: str | None = None
    rejected: list[str] = field(default_factory=list)
    rejects: int = 0
    records_rejected: int = 0
    pages_without_text: int = 0
    _unused: Counter[str] = field(default_factory=Counter)

    def reject(self, reason: str) -> None:
        """Records a part that cannot be used."""
        self.rejects += 1
        if self.rejects <= MAX_REASONS:
            self.rejected.append(clean(reason))

    def reject_records(self, reason: str, records: int = 1) -> None:
        """Records that one or more records of a file cannot be used."""
        self.reject(reason)
        self.records_rejected += records

    def count_unused(self, keys: Iterable[str]) -> None:
        """Counts the keys of one record that no reader used."""
        for key in keys:
            name = key if len(key) <= _MAX_KEY else f"{key[: _MAX_KEY - 1]}…"
            if name in self._unused or len(self._unused) < _MAX_COUNTED:
                self._unused[name] += 1

    def unused_keys(self) -> list[KeyCount]:
        """The unused keys, the most frequent first; of very many, the rest as one row."""
        counts = sorted(self._unused.items(), key=lambda item: (-item[1], item[0]))
        shown, rest = counts[:_MAX_KEYS], counts[_MAX_KEYS:]
        found: list[KeyCount] = [{"key": clean(key), "records": count} for key, count in shown]
        if rest:
            found.append({"key": f"… and {len(rest):,} more keys", "records": rest[0][1]})
        return found

    def reasons(self) -> list[str]:
        """The reasons of the parts left out; beyond MAX_REASONS only their number."""
        more = self.rejects - len(self.rejected)
        return (
            [*self.rejected, f"and {more:,} more parts cannot be used"] if more else self.rejected
        )


Item = Page | InstructionRecord


def clean(text: str) -> str:
    """Turns line ends into newlines and lone surrogates into U+FFFD, and removes NULs."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
