"""What became of a record, pair, chunk or row, given the beginning of its id: the artifact that it is in, its
side of the split, or why it was left out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ft_assets.engine.project import Project
from ft_assets.errors import UserError
from ft_assets.manifest import Manifest
from ft_assets.stages.words import listed
from ft_assets.tables import read_batches


@dataclass(frozen=True)
class Standing:
    """What became of a record, pair or chunk in the current artifacts of a corpus.

    `kind` says what it is the id of: a record, pair or chunk, of which `path` and `place` (a record or
    page) say where it comes from. `asset` is the last artifact that knows it. `outcome` is `train` or
    `eval` with the number of `rows`, `dropped` with the `reason`, and what was kept instead in words, or
    `waiting` if no dataset was built from it yet.
    """

    corpus: str
    kind: str
    id: str
    path: str | None
    place: str
    asset: str
    outcome: str
    rows: int
    reason: str | None
    kept: str | None


def standings(project: Project, corpora: Iterable[str], begins: str) -> list[Standing]:
    """What became of the id with this beginning, in each corpus that has it; [] if none has.

    Raises UserError if it is the beginning of several ids.
    """
    found = [
        artifacts.standing(origin)
        for artifacts in (_Artifacts(project, corpus) for corpus in corpora)
        for origin in artifacts.origins(begins)
    ]
    ids = sorted({each.id for each in found})
    if len(ids) > 1:
        raise UserError(
            f"{begins} is the beginning of {len(ids):,} ids: give more digits of one of "
            f"{listed([each[:16] for each in ids], 3)}"
        )
    return found


@dataclass(frozen=True)
class _Origin:
    """A record, pair or chunk; `reason` says why `qa_pairs` dropped a pair."""

    kind: str
    id: str
    text_id: str
    place: str
    reason: str | None = None


_KINDS = {"record": "record", "qa": "pair", "text": "chunk"}


class _Artifacts:
    """The current tables of a corpus."""

    def __init__(self, project: Project, corpus: str) -> None:
        self._storage, self._corpus = project.storage, corpus

    def _current(self, asset: str) -> tuple[Manifest, Path] | None:
        manifest = self._storage.current(self._corpus, asset)
        if manifest is None:
            return None
        return manifest, self._storage.folder(self._corpus, asset, manifest.version)

    def _rows(
        self, asset: str, table: str, key: str, begins: str, *columns: str
    ) -> Iterator[dict[str, Any]]:
        """The rows of a table whose `key` begins so."""
        import pyarrow.compute as pc

        current = self._current(asset)
        path = current[1] / f"{table}.parquet" if current else None
        if path is None or not path.exists():
            return
        for batch in read_batches(path, [key, "text_id", *columns]):
            yield from batch.filter(pc.starts_with(pc.field(key), begins)).to_pylist()

    def origins(self, begins: str) -> list[_Origin]:
        """The records, pairs and chunks whose id, or that of one of their rows, begins so."""
        found: dict[str, _Origin] = {}
        for row in self._rows("raw_documents", "records", "record_id", begins, "number"):
            place = f"record {row['number']:,}"
            found.setdefault(
                row["record_id"], _Origin("record", row["record_id"], row["text_id"], place)
            )
        for row in self._rows("chunks", "chunks", "chunk_id", begins, "page"):
            place = f"page {row['page']:,}"
            found[row["chunk_id"]] = _Origin("chunk", row["chunk_id"], row["text_id"], place)
        for each in self._pairs(begins):
            found[each.id] = each
        for side in ("train", "eval"):
            rows = self._rows("formatted_dataset", side, "example_id", begins, "origin_id", "kind")
            for row in rows:
                if row["origin_id"] not in found:
                    found[row["origin_id"]] = self._origin(row["origin_id"], row)
        return list(found.values())

    def _pairs(self, begins: str) -> Iterator[_Origin]:
        for table, *reason in (("qa_pairs",), ("dropped", "reason")):
            for row in self._rows("qa_pairs", table, "pair_id", begins, "chunk_id", *reason):
                page = next(
                    (
                        f"page {chunk['page']:,}"
                        for chunk in self._rows(
                            "chunks", "chunks", "chunk_id", row["chunk_id"], "page"
                        )
                    ),
                    "",
                )
                yield _Origin("pair", row["pair_id"], row["text_id"], page, row.get("reason"))

    def _origin(self, origin_id: str, row: dict[str, Any]) -> _Origin:
        """The origin of a row; without its place if it is no longer in the tables above."""
        same = (each for each in self.origins(origin_id) if each.id == origin_id)
        return next(same, _Origin(_KINDS[row["kind"]], origin_id, row["text_id"], ""))

    def standing(self, origin: _Origin) -> Standing:
        """What became of an origin."""
        asset = {"record": "raw_documents", "pair": "qa_pairs", "chunk": "chunks"}[origin.kind]
        path = self._path(origin.text_id)
        found = Standing(
            self._corpus,
            origin.kind,
            origin.id,
            path,
            origin.place,
            asset,
            "waiting",
            0,
            None,
            None,
        )
        if origin.reason:
            return replace(found, outcome="dropped", reason=origin.reason)
        for side in ("train", "eval"):
            rows = self._rows("formatted_dataset", side, "origin_id", origin.id)
            if count := sum(1 for _ in rows):
                return replace(found, asset="formatted_dataset", outcome=side, rows=count)
        columns = ("reason", "kept_id", "kind")
        for row in self._rows("formatted_dataset", "dropped", "origin_id", origin.id, *columns):
            kept = self._kept(row) if row["kept_id"] else None
            return replace(
                found,
                asset="formatted_dataset",
                outcome="dropped",
                reason=row["reason"],
                kept=kept,
            )
        return found

    def _kept(self, row: dict[str, Any]) -> str:
        kept = self._origin(row["kept_id"], row)
        where = self._path(kept.text_id) or kept.id
        return f"{where}, {kept.place}" if kept.place else where

    def _path(self, text_id: str) -> str | None:
        import pyarrow.compute as pc

        if not (current := self._current("raw_documents")):
            return None
        table = self._storage.sources_table(current[0], ["path", "text_id"])
        rows = table.filter(pc.field("text_id") == text_id).to_pylist()
        return rows[0]["path"] if rows else None
