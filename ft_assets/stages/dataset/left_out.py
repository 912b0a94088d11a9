"""What a dataset left out, by document: for the verdicts, which name documents and places in them.

Documents are named by the beginning of an id, because renaming a file does not create a new dataset.
`engine/verdicts.py` replaces it by the path if a verdict is shown.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ft_assets.records import SourceDocument
from ft_assets.stages.dataset.rows import FAULT, TOO_LONG
from ft_assets.stages.dataset.split import ASKS, EQUAL, LEAKED, NEAR, REASONS
from ft_assets.stages.words import listed
from ft_assets.tables import read_batches, read_table, values

SHORT = 12
"""Characters of an id that a verdict shows."""
NAMED = 3
"""Documents that a verdict names."""
_SHOWN_REASON = 160

Group = str
"""What was left out together: `duplicates`, `leaks`, `questions`, `refusals` or nothing."""
_GROUPS = {EQUAL: "duplicates", NEAR: "duplicates", LEAKED: "leaks", ASKS: "questions"}


def group_of(reason: str) -> Group:
    """The group of a reason in `dropped.parquet`; a reason of the template's own is a refusal."""
    if reason in REASONS:
        return _GROUPS.get(REASONS.index(reason), "")
    return "" if reason.startswith((FAULT, TOO_LONG)) else "refusals"


@dataclass
class _Documents:
    """The origins of a group: how many of each text, and the first of each with its reason."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, tuple[str, str, str]] = field(default_factory=dict)


class LeftOut:
    """The origins that a dataset left out, read from its `dropped.parquet`.

    `inputs` are the folders of the dataset's inputs, which say where in a document an origin is.
    """

    def __init__(self, dropped: Path, inputs: dict[str, Path]) -> None:
        self._inputs = inputs
        self._groups: dict[Group, _Documents] = {}
        last, columns = ("", ""), ["text_id", "origin_id", "reason", "kind"]
        for batch in read_batches(dropped, columns):
            for text_id, origin_id, reason, kind in zip(
                *(values(batch, name) for name in columns), strict=True
            ):
                group = group_of(reason)
                if group and last != (group, origin_id):
                    found = self._groups.setdefault(group, _Documents())
                    found.counts[text_id] += 1
                    found.first.setdefault(text_id, (kind, origin_id, reason))
                last = (group, origin_id)

    def count(self, group: Group) -> int:
        """The number of origins in a group."""
        return self._of(group).counts.total()

    def named(self, group: Group, *, with_reason: bool = False) -> str:
        """The documents with most of them, each with its number of rows and the place of the first."""
        found = self._of(group)
        worst = sorted(found.counts, key=lambda text_id: (-found.counts[text_id], text_id))
        places = _places(self._inputs, [found.first[text_id][:2] for text_id in worst[:NAMED]])
        shown = []
        for text_id in worst[:NAMED]:
            _, origin_id, reason = found.first[text_id]
            count = found.counts[text_id]
            rows = f"{count:,} rows, the first" if count > 1 else "1 row"
            said = f"{text_id[:SHORT]} ({rows} {places.get(origin_id, 'of it')}"
            shown.append(f"{said}: {_brief(reason)})" if with_reason else f"{said})")
        return enumerated(shown, len(worst))

    def _of(self, group: Group) -> _Documents:
        return self._groups.get(group, _Documents())


def enumerated(shown: list[str], found: int) -> str:
    """A few of so many documents after a colon, and how many more there are; nothing if there are none."""
    return f": {listed(shown, len(shown), found)}" if shown else ""


def _brief(reason: str) -> str:
    """A reason in one line; a template may write as much as it likes."""
    line = " ".join(reason.split())
    return line if len(line) <= _SHOWN_REASON else f"{line[:_SHOWN_REASON]}…"


def _places(inputs: dict[str, Path], origins: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Where in its document each origin (a kind and an id) is, in words."""
    ids: dict[str, set[str]] = {"record": set(), "qa": set(), "text": set()}
    for kind, origin_id in origins:
        ids[kind].add(origin_id)
    pairs = _find(inputs["qa_pairs"] / "qa_pairs.parquet", "pair_id", ids["qa"], "chunk_id")
    chunks = _find(
        inputs["chunks"] / "chunks.parquet", "chunk_id", {*ids["text"], *pairs.values()}, "page"
    )
    records = _find(
        inputs["raw_documents"] / "records.parquet", "record_id", ids["record"], "number"
    )
    return {
        **{record_id: f"is record {number:,}" for record_id, number in records.items()},
        **{chunk_id: f"on page {page:,}" for chunk_id, page in chunks.items()},
        **{
            pair_id: f"on page {chunks[chunk_id]:,}"
            for pair_id, chunk_id in pairs.items()
            if chunk_id in chunks
        },
    }


def _find(path: Path, key: str, ids: set[str], column: str) -> dict[str, Any]:
    """The value of a column for each of a few ids."""
    found: dict[str, Any] = {}
    for batch in read_batches(path, [key, column]) if ids else ():
        for each, value in zip(values(batch, key), values(batch, column), strict=True):
            if each in ids:
                found.setdefault(each, value)
    return found


@dataclass
class Rejections:
    """What was turned away before the dataset: records, and documents with their bytes.

    A document counts once, by its id, however many files it is; a record that was read, once for each
    text. So the numbers depend only on the content of `raw_documents`.
    """

    records_read: int = 0
    records: int = 0
    _partly: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    _whole: dict[str, tuple[int, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, sources: Path) -> "Rejections":
        """What `sources.parquet` of the raw documents says."""
        found, texts = cls(), set()
        for row in read_table(sources, SourceDocument):
            found._take(row)
            if row.text_id and row.text_id not in texts:
                texts.add(row.text_id)
                found.records_read += row.records
        return found

    def _take(self, row: SourceDocument) -> None:
        seen = row.document_id in self._whole or row.document_id in self._partly
        if seen or row.media_type == "unknown":
            return
        reason = _brief(row.rejected[0]) if row.rejected else ""
        if row.text_id is None:
            self._whole[row.document_id] = (row.bytes, reason)
        if row.records_rejected:
            self.records += row.records_rejected
            of = row.records + row.records_rejected
            self._partly[row.document_id] = (row.records_rejected, of, reason)

    @property
    def bytes(self) -> int:
        """The bytes of the documents that could not be read."""
        return sum(count for count, _ in self._whole.values())

    def named_records(self) -> str:
        """The documents that lost most records, with the first reason of each."""
        worst = sorted(self._partly.items(), key=lambda item: (-item[1][0], item[0]))
        shown = [
            f"{document_id[:SHORT]} ({count:,} of {of:,}: {reason})"
            for document_id, (count, of, reason) in worst[:NAMED]
        ]
        return enumerated(shown, len(worst))

    def named_documents(self) -> str:
        """The largest documents that could not be read, with the first reason of each."""
        worst = sorted(self._whole.items(), key=lambda item: (-item[1][0], item[0]))
        shown = [
            f"{document_id[:SHORT]} ({count:,} bytes: {reason})"
            for document_id, (count, reason) in worst[:NAMED]
        ]
        return enumerated(shown, len(worst))

    def unread(self) -> int:
        """The number of documents that could not be read."""
        return len(self._whole)
