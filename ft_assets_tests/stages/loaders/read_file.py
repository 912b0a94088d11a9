"""Reads one file like the asset does, in a parser process, and gives access to its rows."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft_assets.config import LoaderSettings
from ft_assets.files import hash_file
from ft_assets.records import Document, InstructionRecord, Quality
from ft_assets.stages.job import CorpusFile
from ft_assets.stages.parsing.files import ParsedFile
from ft_assets.stages.parsing.row_spool import spooled_rows
from ft_assets.stages.raw_documents import read_files
from ft_assets.tables import from_rows


@dataclass
class Read:
    """The content of one file."""

    parsed: ParsedFile
    documents: list[Document]
    records: list[InstructionRecord]
    quality: list[Quality]

    @property
    def text(self) -> str:
        return "\n\n".join(document.text for document in self.documents)

    @property
    def headings(self) -> list[tuple[int, str, str]]:
        """Level, title, and the words at the start position of each heading."""
        found = [heading for document in self.documents for heading in document.headings]
        return [
            (each["level"], each["title"], self.text[each["start"] :][: len(each["title"])])
            for each in found
        ]

    @property
    def reason(self) -> str:
        """Why nothing in it can be used."""
        assert self.parsed.text_id is None
        assert not [*self.documents, *self.records, *self.quality]
        [reason] = self.parsed.rejected
        return reason


def settings(**changed: Any) -> LoaderSettings:
    return LoaderSettings(**changed)


def read(path: Path, **changed: Any) -> Read:
    """Reads a file with the `changed` settings."""
    with tempfile.TemporaryDirectory() as folder:
        file = CorpusFile(path.name, path.stat().st_size, hash_file(path))
        [(_, parsed)] = read_files([file], path.parent, settings(**changed), Path(folder))
        rows: dict[type, list[Any]] = {
            record: list(
                from_rows(
                    spooled_rows(str(parsed.text_id), parsed.batches.get(name, []), record), record
                )
            )
            for name, record in (
                ("documents", Document),
                ("records", InstructionRecord),
                ("quality", Quality),
            )
        }
    return Read(parsed, rows[Document], rows[InstructionRecord], rows[Quality])
