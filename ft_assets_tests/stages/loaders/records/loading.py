"""Loads a file of records in this process, as a parser process does."""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ft_assets.config import LoaderSettings
from ft_assets.records import InstructionRecord, Message
from ft_assets.stages.loaders.formats import engines_of, load, media_type_of
from ft_assets.stages.loaders.interface import Notes, Page, UnreadableError


@dataclass
class Loaded:
    """What a file holds; `reason` says why nothing in it can be used."""

    records: list[InstructionRecord] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    lost: int = 0
    unused: dict[str, int] = field(default_factory=dict)
    reason: str = ""

    @property
    def messages(self) -> list[Message]:
        """The messages of the only record."""
        assert not self.rejected, self.rejected
        [record] = self.records
        return record.messages

    @property
    def turns(self) -> list[tuple[str, str]]:
        """Role and content of the only record's messages."""
        return [(turn["role"], turn["content"]) for turn in self.messages]

    @property
    def refusal(self) -> str:
        """Why the only entry is turned away."""
        assert not self.records, self.records
        assert not self.texts, self.texts
        [reason] = self.rejected
        return reason.partition(": ")[2]


def load_bytes(content: bytes, name: str = "a.jsonl", **settings: Any) -> Loaded:
    """Loads a file of this name and content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        media_type, how = media_type_of(name), LoaderSettings(**settings)
        notes = Notes(Path(folder), engines_of(media_type, how)[0])
        found = Loaded()
        try:
            for item in load(path, media_type, how, notes):
                if isinstance(item, Page):
                    assert item.sample
                    found.texts.append(item.text)
                else:
                    found.records.append(item)
        except UnreadableError as error:
            found.reason = str(error)
    found.rejected, found.lost = notes.reasons(), notes.records_rejected
    found.unused = {each["key"]: each["records"] for each in notes.unused_keys()}
    return found


def load_values(*values: Any, name: str = "a.jsonl") -> Loaded:
    """Loads JSON Lines of these values."""
    lines = "\n".join(json.dumps(value, ensure_ascii=False) for value in values)
    return load_bytes(lines.encode("utf-8", "surrogatepass"), name)
