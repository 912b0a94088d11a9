"""`raw_documents`: text and instruction records of the corpus, with tables of how texts look and of what
was left out.
"""

from dataclasses import fields
from heapq import nsmallest
from itertools import islice
from pathlib import Path

import dagster as dg

from ft_assets.defs.materialize import corpus_asset, materialize
from ft_assets.defs.metadata import Metadata, table
from ft_assets.engine.project import Project
from ft_assets.engine.reasons import grouped
from ft_assets.manifest import MANIFEST, Manifest, sources_path
from ft_assets.records import Quality, SourceDocument
from ft_assets.tables import read_table

_SHOWN = 100
_COLUMNS = ("path", *(each.name for each in fields(Quality) if each.name != "text_id"))


@corpus_asset("raw_documents")
def raw_documents(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> dg.MaterializeResult:
    return materialize(context, project, pictures=tables)


def tables(folder: Path) -> Metadata:
    """How the texts look, and what was left out."""
    manifest = Manifest.from_json((folder / MANIFEST).read_text())
    sources = list(read_table(sources_path(folder, manifest), SourceDocument))
    return {**_quality(folder, sources), **_left_out(sources)}


def _left_out(sources: list[SourceDocument]) -> Metadata:
    """The files that were rejected, whole or in part, with the reason."""
    reasons = ((row.path, reason) for row in sources for reason in grouped(row.rejected))
    rows = [{"path": path, "reason": str(reason)} for path, reason in islice(reasons, _SHOWN)]
    return {"left_out": table(rows, ("path", "reason"))} if rows else {}


def _quality(folder: Path, sources: list[SourceDocument]) -> Metadata:
    """How the texts look, those with a problem first."""
    paths = {row.text_id: row.path for row in reversed(sources)}
    rows = (
        {"path": paths[row.text_id], **vars(row)}
        for row in read_table(folder / "quality.parquet", Quality)
    )
    shown = nsmallest(_SHOWN, rows, key=lambda row: (row["problem"] is None, row["path"]))
    return {"quality": table([{**row, "problem": row["problem"] or ""} for row in shown], _COLUMNS)}
