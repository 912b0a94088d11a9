"""From a document to the artifacts that were made from it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ft_assets.engine.graph import GRAPH
from ft_assets.engine.project import Project
from ft_assets.engine.standing import Standing, standings
from ft_assets.engine.storage import Storage
from ft_assets.errors import UserError
from ft_assets.files import hash_file, portable_name
from ft_assets.manifest import Manifest
from ft_assets.stages.words import listed

if TYPE_CHECKING:
    import pyarrow as pa

_ID = re.compile(r"[0-9a-f]{6,64}")
_RAW = "raw_documents"

Place = tuple[str, str]
"""A corpus and the path of a file in it."""


@dataclass(frozen=True)
class Learned:
    """An artifact that goes back to a document, and the id that the document had then.

    The rows are those that the document gave the dataset that the artifact goes back to; None before
    there are rows. Without training rows it was only held out for evaluation.
    """

    corpus: str
    asset: str
    version: str
    current: bool
    document_id: str
    train_rows: int | None
    eval_rows: int | None


@dataclass(frozen=True)
class LeftOut:
    """A corpus whose current raw documents leave out the whole of a document, and why."""

    corpus: str
    path: str
    reasons: list[str]


@dataclass(frozen=True)
class LeftOutInPart(LeftOut):
    """A corpus whose current raw documents leave out a part of a document: records, or pages."""

    records: int
    records_rejected: int


@dataclass(frozen=True)
class Impact:
    """Where a document is: the artifacts that go back to it, and the corpora that leave it, or a part of
    it, out; or what became of a record, pair, chunk or row.
    """

    artifacts: list[Learned]
    left_out: list[LeftOut]
    left_out_in_part: list[LeftOutInPart]
    standings: list[Standing]


def impact(project: Project, file: str, corpora: list[str] | None = None) -> Impact:
    """Every artifact, current or old, that goes back to a document, and where it was left out.

    `file` is a path from here, from the data folder or from a corpus folder, of a file that is there or
    was, or the beginning of an id of a document, text, record, pair, chunk or row. A file that changed is found with what it held before, too,
    and a file that was saved again with the same text under either id. A path that several corpora have
    is looked for in all of them, or in `corpora`. Raises UserError for a file that no artifact and no folder knows, and
    for the beginning of several ids.
    """
    known = [
        manifest
        for corpus in corpora or project.storage.corpora()
        for asset in GRAPH
        for manifest in project.storage.history(corpus, asset)
    ]
    lists = _Lists(project.storage)
    for asked in _readings(project, file):
        if documents := lists.find(known, asked):
            return _impact(project, lists, known, documents)
        if asked.sha256 is not None:
            return Impact([], [], [], [])
    if _ID.fullmatch(file) and (
        found := standings(project, corpora or project.storage.corpora(), file)
    ):
        return Impact([], [], [], found)
    raise UserError(
        f"{file} is not a file, and no artifact was built from a document of this path or id: give a "
        "path from here, from the data folder or from a corpus folder, or 6 digits or more of an id "
        "(of a document, record, pair, chunk or row)"
    )


@dataclass(frozen=True)
class _Asked:
    """One way to read what a user asked for: places, the content of a file, the beginning of an id."""

    places: list[Place]
    sha256: str | None = None
    begins: str | None = None


@dataclass(frozen=True)
class _Document:
    """What a list says of a document that was asked for."""

    path: str
    text_id: str | None
    document_id: str


def _readings(project: Project, file: str) -> Iterator[_Asked]:
    """The ways to read a user's word, the likeliest first."""
    place, path = _place(project, file)
    sha256 = hash_file(path) if path.is_file() else None
    yield _Asked([place] if place else [], sha256)
    if not Path(file).is_absolute():
        inside = portable_name(Path(file).as_posix())
        corpora = {*project.corpora(), *project.storage.corpora()}
        yield _in_corpora(project, sorted(corpora), inside)
    if _ID.fullmatch(file):
        yield _Asked([], begins=file)


def _in_corpora(project: Project, corpora: list[str], inside: str) -> _Asked:
    """A path in the folder of any corpus; one that has the file makes it a file that is known."""
    files = (project.data / corpus / inside for corpus in corpora)
    sha256 = next((hash_file(path) for path in files if path.is_file()), None)
    return _Asked([(corpus, inside) for corpus in corpora], sha256)


def _place(project: Project, file: str) -> tuple[Place | None, Path]:
    """The corpus and the path in it that a user's word names, and the file."""
    for path in (Path(file).absolute(), project.data / file):
        if path.is_relative_to(project.data):
            parts = path.relative_to(project.data).parts
            if len(parts) > 1 and (
                path.exists() or path != Path(file).absolute() or Path(file).is_absolute()
            ):
                return (parts[0], Path(*parts[1:]).as_posix()), path
        elif path.is_file():
            return None, path
    return None, Path(file)


def _impact(
    project: Project, lists: "_Lists", known: list[Manifest], documents: set[_Document]
) -> Impact:
    texts = {document.text_id for document in documents}
    artifacts: list[Learned] = []
    left_out: list[LeftOut] = []
    in_part: list[LeftOutInPart] = []
    for manifest in known:
        now = project.storage.current_version(manifest.corpus, manifest.asset)
        current = manifest.version == now
        artifacts += [
            Learned(manifest.corpus, manifest.asset, manifest.version, current, *found)
            for found in lists.learned(manifest, texts)
        ]
        if current and manifest.asset == _RAW:
            left_out += lists.left_out(manifest, documents)
            in_part += lists.left_out_in_part(manifest, documents)
    return Impact(artifacts, left_out, in_part, [])


class _Lists:
    """The documents behind artifacts, searched as Arrow tables; equal lists are read once."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._read: dict[tuple[str, str], pa.Table] = {}

    def _of(self, manifest: Manifest) -> "pa.Table":
        key = manifest.corpus, manifest.sources["sha256"]
        if key not in self._read:
            columns = ["path", "document_id", "text_id", "rejected", "train_rows", "eval_rows"]
            columns += ["records", "records_rejected"]
            self._read[key] = self._storage.sources_table(manifest, columns)
        return self._read[key]

    def find(self, known: list[Manifest], asked: _Asked) -> set[_Document]:
        """The documents that are asked for, in any artifact.

        Raises UserError if the beginning of an id is that of several.
        """
        found = {each for manifest in known for each in self._found(manifest, asked)}
        begins = asked.begins
        texts = {
            each.text_id for each in found if begins and (each.text_id or "").startswith(begins)
        }
        ids = sorted({each.document_id for each in found if each.text_id not in texts})
        if begins and len(ids) + len(texts) > 1:
            raise UserError(
                f"{begins} is the beginning of {len(ids) + len(texts):,} document ids: give more "
                f"digits of one of {listed([each[:16] for each in [*ids, *sorted(map(str, texts))]], 3)}"
            )
        return found

    def _found(self, manifest: Manifest, asked: _Asked) -> Iterator[_Document]:
        import pyarrow.compute as pc

        paths = [path for corpus, path in asked.places if corpus == manifest.corpus]
        # An id that no document has is used for what is not asked for.
        is_it = (pc.field("path") == "".join(paths)) | (
            pc.field("document_id") == (asked.sha256 or "-")
        )
        if asked.begins:
            is_it |= pc.starts_with(pc.field("document_id"), asked.begins)
            is_it |= pc.starts_with(pc.field("text_id"), asked.begins)
        for row in (
            self._of(manifest).filter(is_it).select(["path", "text_id", "document_id"]).to_pylist()
        ):
            yield _Document(**row)

    def learned(
        self, manifest: Manifest, texts: set[str | None]
    ) -> list[tuple[str, int | None, int | None]]:
        """The ids of the documents with one of these texts, in order, with the rows of each."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pa.array(sorted(filter(None, texts)), pa.string())
        found = self._of(manifest).filter(pc.field("text_id").isin(wanted))
        rows = found.select(["document_id", "train_rows", "eval_rows"]).to_pylist()
        return sorted(
            {(row["document_id"], row["train_rows"], row["eval_rows"]) for row in rows},
            key=lambda each: each[0],
        )

    def left_out(self, manifest: Manifest, documents: set[_Document]) -> Iterator[LeftOut]:
        """Those of the documents of which nothing could be used; one that has no id is told by its path."""
        import pyarrow.compute as pc

        ids = {each.document_id or each.path for each in documents}
        for row in self._of(manifest).filter(pc.field("text_id").is_null()).to_pylist():
            if (row["document_id"] or row["path"]) in ids:
                yield LeftOut(manifest.corpus, row["path"], row["rejected"])

    def left_out_in_part(
        self, manifest: Manifest, documents: set[_Document]
    ) -> Iterator[LeftOutInPart]:
        """Those of the documents of which a part could not be used."""
        import pyarrow.compute as pc

        ids = {each.document_id for each in documents}
        for row in self._of(manifest).filter(~pc.field("text_id").is_null()).to_pylist():
            if row["document_id"] in ids and row["rejected"]:
                yield LeftOutInPart(
                    manifest.corpus,
                    row["path"],
                    row["rejected"],
                    row["records"],
                    row.get("records_rejected", 0),
                )
