"""From an artifact to the documents that it was made from, and from a document to its artifacts."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ft_assets.engine.graph import GRAPH
from ft_assets.engine.project import Project
from ft_assets.engine.storage import DamagedError, Storage
from ft_assets.errors import UserError
from ft_assets.files import hash_file
from ft_assets.manifest import Manifest
from ft_assets.records import SourceDocument

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = (
    "path",
    "document_id",
    "text_id",
    "pages",
    "records",
    "train_rows",
    "train_tokens",
    "eval_rows",
)
_OF_THE_ROWS = ("train_rows", "train_tokens", "eval_rows")
_DOCUMENT_ID = re.compile(r"[0-9a-f]{8,64}")


def documents_behind(storage: Storage, manifest: Manifest) -> Iterator[SourceDocument]:
    """The documents behind an artifact, and what each one gave.

    Path and document id are those that the raw documents have now that the artifact goes back to: a
    renamed file has its new name there.
    """
    rows = storage.sources(manifest)
    if manifest.asset == "raw_documents":
        yield from rows
        return
    files: dict[str | None, list[SourceDocument]] = {}
    for row in storage.sources(_raw_documents(storage, manifest)):
        files.setdefault(row.text_id, []).append(row)
    seen: set[str | None] = set()
    for row in rows:
        if row.text_id not in files:
            yield row
        elif row.text_id not in seen:
            seen.add(row.text_id)
            for file in files[row.text_id]:
                yield replace(
                    file,
                    train_rows=row.train_rows,
                    train_tokens=row.train_tokens,
                    eval_rows=row.eval_rows,
                    eval_tokens=row.eval_tokens,
                )


def told(row: SourceDocument) -> dict[str, object]:
    """A document as `lineage` shows it: its values in the order of COLUMNS, and what was left out.

    Counts of rows are missing above the formatted dataset, where there are no rows yet. `rejected` has
    the reasons why the document, or a part of it, could not be used.
    """
    found = {key: getattr(row, key) for key in COLUMNS}
    found = {k: value for k, value in found.items() if value is not None or k not in _OF_THE_ROWS}
    return {**found, "rejected": row.rejected} if row.rejected else found


def _raw_documents(storage: Storage, manifest: Manifest) -> Manifest:
    """The manifest of the raw documents that an artifact goes back to; its own if they are gone."""
    found = manifest
    while found.asset != "raw_documents":
        name = next(name for name in found.inputs if name in GRAPH)
        try:
            found = storage.manifest(manifest.corpus, name, found.inputs[name])
        except DamagedError:
            return manifest
    return found


def require_made(project: Project, corpus: str, asset: str | None) -> Manifest:
    """The current manifest of an asset, by default of the last one there is.

    Raises UserError if it was never built.
    """
    for name in [asset] if asset else reversed(GRAPH):
        if manifest := project.storage.current(corpus, name):
            return manifest
    until = f" --until {asset}" if asset else ""
    raise UserError(f"{corpus} has no {asset or 'artifact'} yet: ft-assets refresh {corpus}{until}")


@dataclass(frozen=True)
class Learned:
    """An artifact that goes back to a document, and the id that the document had then."""

    corpus: str
    asset: str
    version: str
    current: bool
    document_id: str


def impact(project: Project, file: str) -> list[Learned]:
    """Every artifact, current or old, that learned from a document.

    `file` is a path, from here or from the data folder, of a file that is there or was, or a
    document id of at least 8 digits. A file that changed is found with what it held before, too, and
    a file that was saved again with the same text under either id. Raises UserError for a file that
    no artifact and no folder knows.
    """
    place, path = _place(project, file)
    sha256 = hash_file(path) if path.is_file() else None
    by_id = file if _DOCUMENT_ID.fullmatch(file) and not path.exists() else None
    known = [
        manifest
        for corpus in project.storage.corpora()
        for asset in GRAPH
        for manifest in project.storage.history(corpus, asset)
    ]
    lists = _Lists(project.storage)
    texts: set[str | None] = set()
    found_any = False
    for manifest in known:
        own_path = place[1] if place and place[0] == manifest.corpus else None
        found = lists.texts(manifest, own_path, sha256, by_id)
        found_any = found_any or bool(found)
        texts |= found
    if not found_any and sha256 is None:
        raise UserError(
            f"{file} is not a file, and no artifact was built from a document of this name or id"
        )
    learned = []
    for manifest in known:
        now = project.storage.current_version(manifest.corpus, manifest.asset)
        learned += [
            Learned(manifest.corpus, manifest.asset, manifest.version, manifest.version == now, id_)
            for id_ in lists.documents(manifest, texts)
        ]
    return learned


class _Lists:
    """The documents behind artifacts, searched as Arrow tables; equal lists are read once."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._read: dict[tuple[str, str], pa.Table] = {}

    def _of(self, manifest: Manifest) -> "pa.Table":
        key = manifest.corpus, manifest.sources["sha256"]
        if key not in self._read:
            columns = ["path", "document_id", "text_id"]
            self._read[key] = self._storage.sources_table(manifest, columns)
        return self._read[key]

    def texts(
        self, manifest: Manifest, path: str | None, document_id: str | None, begins: str | None
    ) -> set[str | None]:
        """The text ids of the documents of that path, of that id, or whose id begins so."""
        import pyarrow.compute as pc

        # An id that no document has is used for what is not asked for.
        is_it = (pc.field("path") == (path or "")) | (
            pc.field("document_id") == (document_id or "-")
        )
        if begins:
            is_it |= pc.starts_with(pc.field("document_id"), begins)
        return set(self._of(manifest).filter(is_it)["text_id"].to_pylist())

    def documents(self, manifest: Manifest, texts: set[str | None]) -> list[str]:
        """The ids of the documents with one of these texts, in order."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pa.array(sorted(filter(None, texts)), pa.string())
        found = self._of(manifest).filter(pc.field("text_id").isin(wanted))
        ids: set[str] = set(found["document_id"].to_pylist())  # type: ignore[arg-type]  # never null
        return sorted(ids)


def _place(project: Project, file: str) -> tuple[tuple[str, str] | None, Path]:
    """The corpus and the path in it that a user's word names, and the file."""
    for path in (Path(file).absolute(), project.data / file):
        if path.is_relative_to(project.data):
            corpus, *rest = path.relative_to(project.data).parts
            if rest and (
                path.exists() or path != Path(file).absolute() or Path(file).is_absolute()
            ):
                return (corpus, Path(*rest).as_posix()), path
        elif path.is_file():
            return None, path
    return None, Path(file)
