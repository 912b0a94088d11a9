"""Where rows are from: the file and the page of each, and the record, pair or chunk that it was made of."""

from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ft_assets.engine.graph import GRAPH
from ft_assets.engine.masks import contains, every, has
from ft_assets.engine.shown import SEARCHED, TABLES
from ft_assets.engine.storage import DamagedError, Storage
from ft_assets.engine.table_view import Mask, TableView
from ft_assets.manifest import Manifest
from ft_assets.stages.words import counted
from ft_assets.tables import values

if TYPE_CHECKING:
    import pyarrow as pa


_KINDS = {"record": "records", "qa": "pairs", "text": "chunks"}
"""The table that origins of each kind are in."""


@dataclass(frozen=True)
class Place:
    """The file that a row is from, and the page or the record in it.

    `same` is the number of other files with the same content.
    """

    path: str
    page: int | None
    record: int | None
    same: int

    def __str__(self) -> str:
        where = [self.path]
        if self.page:
            where.append(f"page {self.page:,}")
        if self.record:
            where.append(f"record {self.record:,}")
        if self.same:
            where.append(f"and {counted(self.same, 'file')} with the same content")
        return ", ".join(where)


@dataclass(frozen=True)
class Found:
    """A file of the corpus; `text_id` is None if nothing in it could be used."""

    path: str
    text_id: str | None
    rejected: list[str]


@dataclass(frozen=True)
class Behind:
    """What is behind a row: its place, its origin as it is in its table, and what to say about it."""

    place: Place | None
    origin: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)


class Origins:
    """The tables that an artifact was made from, and the files behind them."""

    def __init__(self, storage: Storage, manifest: Manifest) -> None:
        self._storage, self._corpus = storage, manifest.corpus
        self._manifests = {manifest.asset: manifest}
        self._collect(manifest)
        self._views: dict[str, TableView] = {}

    def _collect(self, manifest: Manifest) -> None:
        """The manifests of the inputs; one that is gone or damaged is passed over."""
        for name, version in manifest.inputs.items():
            if name in GRAPH and name not in self._manifests:
                with suppress(DamagedError):
                    found = self._storage.manifest(self._corpus, name, version)
                    self._manifests[name] = found
                    self._collect(found)

    @cached_property
    def _files(self) -> "pa.Table | None":
        raw = self._manifests.get("raw_documents")
        columns = ["path", "text_id", "rejected"]
        return self._storage.sources_table(raw, columns) if raw else None

    def paths(self) -> list[str]:
        """The paths of all files."""
        return [] if self._files is None else values(self._files, "path")

    def spelled(self, path: str) -> str:
        """A path as the tables spell it, though it may begin with the corpus's folder."""
        _, inside, rest = f"/{path}".partition(f"/{self._corpus}/")
        return rest if inside and not self.file(path) and self.file(rest) else path

    def file(self, path: str) -> Found | None:
        """The file with this path."""
        if self._files is None:
            return None
        rows = self._files.filter(has("path", {path})(self._files)).slice(0, 1).to_pylist()
        return Found(**rows[0]) if rows else None

    def containing(self, grep: str, text_ids: set[str] | None) -> Mask:
        """The rows whose origin, named by `origin_id`, contains a text."""
        found: set[str] = set()
        for kind, what in _KINDS.items():
            if view := self._view(kind):
                masks = [contains(SEARCHED[what], grep)]
                columns = [*SEARCHED[what], "text_id"]
                if text_ids is not None:
                    masks.append(has("text_id", text_ids))
                places = list(view.places(columns, every(masks), text_ids))
                found |= set(view.values(places, TABLES[what].ids))
        return has("origin_id", found)

    def behind(self, what: str, rows: list[dict[str, Any]]) -> list[Behind]:
        """What is behind each row of a table."""
        places = _Paths(self._files, {row["text_id"] for row in rows})
        if what in ("documents", "records", "chunks"):
            return [Behind(places.of(row), None, _own_notes(row)) for row in rows]
        if what == "pairs":
            found = self._find("text", {row["chunk_id"] for row in rows}, _texts(rows))
            chunks = {chunk["chunk_id"]: chunk for chunk in found}
            return [Behind(places.of(chunks.get(row["chunk_id"]) or row)) for row in rows]
        return self._of_dataset(rows, places)

    def _of_dataset(self, rows: list[dict[str, Any]], places: "_Paths") -> list[Behind]:
        """What is behind rows of the dataset: their records, pairs or chunks."""
        origins, kept = self._origins(rows), self._kept(rows)
        found = []
        for row in rows:
            copies = origins.get((row["kind"], row["text_id"], row["origin_id"]), [None])
            # Equal records have one id, and the first of them is kept.
            origin = copies[-1 if row.get("kept_id") == row["origin_id"] else 0]
            chunk = None
            if row["kind"] == "qa" and origin:
                chunk = origins.get(("text", row["text_id"], origin["chunk_id"]), [None])[0]
            notes = _row_notes(row)
            if row.get("kept_id"):
                notes.append(f"it duplicates {kept.get(row['kept_id'], row['kept_id'][:8])}")
            found.append(Behind(places.of(chunk or origin or row), origin, notes))
        return found

    def _origins(self, rows: list[dict[str, Any]]) -> dict[tuple[str, str, str], list[Any]]:
        """The records, pairs and chunks of rows, by kind, text and id, with the chunks of the pairs."""
        found: dict[tuple[str, str, str], list[Any]] = {}
        wanted = {kind: {r["origin_id"] for r in rows if r["kind"] == kind} for kind in _KINDS}
        for kind in ("record", "qa", "text"):
            for origin in self._find(kind, wanted[kind], _texts(rows)):
                key = (kind, origin["text_id"], origin[_ids(kind)])
                found.setdefault(key, []).append(origin)
                if kind == "qa":
                    wanted["text"].add(origin["chunk_id"])
        return found

    def _kept(self, rows: list[dict[str, Any]]) -> dict[str, str]:
        """Where the origins are that dropped rows duplicate. Their texts are not known, so that their
        ids are searched for in all tables of the same kind.
        """
        kept: dict[str, str] = {}
        for kind in _KINDS:
            wanted = {r["kept_id"] for r in rows if r.get("kept_id") and r["kind"] == kind}
            origins = self._find(kind, wanted, None)
            places = _Paths(self._files, _texts(origins))
            for origin in origins:
                key = origin[_ids(kind)]
                kept.setdefault(key, str(places.of(origin) or key[:8]))
        return kept

    def _find(
        self, kind: str, ids: Collection[str], text_ids: Collection[str] | None
    ) -> list[dict[str, Any]]:
        """The records, pairs or chunks with these ids, in order; without `text_ids` the first of each."""
        view, name = self._view(kind), _ids(kind)
        if not ids or view is None:
            return []
        if text_ids is None:
            return view.at(view.first(name, ids))
        return view.at(list(view.places([name], has(name, set(ids)), text_ids)))

    def _view(self, kind: str) -> TableView | None:
        """The table of one kind; None if it is gone."""
        source = TABLES[_KINDS[kind]]
        manifest = self._manifests.get(source.asset)
        if manifest is None:
            return None
        if kind not in self._views:
            folder = self._storage.folder(self._corpus, source.asset, manifest.version)
            self._views[kind] = TableView(folder / source.file)
        return self._views[kind]


def _ids(kind: str) -> str:
    """The column with the ids of origins of one kind."""
    return TABLES[_KINDS[kind]].ids


class _Paths:
    """The paths of the files that some texts were read from."""

    def __init__(self, files: "pa.Table | None", text_ids: set[str]) -> None:
        self._paths: dict[str, list[str]] = {}
        if files is not None:
            for row in files.filter(has("text_id", text_ids)(files)).to_pylist():
                self._paths.setdefault(row["text_id"], []).append(row["path"])

    def of(self, row: dict[str, Any]) -> Place | None:
        """The place of a page, chunk or record."""
        paths = self._paths.get(row["text_id"])
        if not paths:
            return None
        return Place(paths[0], row.get("page"), row.get("number"), len(paths) - 1)


def _texts(rows: Iterable[dict[str, Any]]) -> set[str]:
    return {row["text_id"] for row in rows}


def _own_notes(row: dict[str, Any]) -> list[str]:
    return [row["heading"]] if row.get("heading") else []


def _row_notes(row: dict[str, Any]) -> list[str]:
    """What is said of a row of the dataset."""
    if "reason" in row:
        return [row["reason"]]
    notes = [counted(row["tokens"], "token"), f"{row['trained_tokens']:,} trained"]
    if row["variant"]:
        notes.append(f"variant {row['variant']}")
    if row["cut_tokens"]:
        notes.append(f"{row['cut_tokens']:,} cut off")
    return notes
