"""`raw_documents`: text and instruction records of the corpus, with a table of how texts look."""

from dataclasses import fields
from heapq import nsmallest
from pathlib import Path

import dagster as dg

from ft_assets.defs.materialize import corpus_asset, materialize
from ft_assets.defs.metadata import Metadata, table
from ft_assets.engine.project import Project
from ft_assets.manifest import MANIFEST, Manifest, sources_path
from ft_assets.records import Quality, SourceDocument
from ft_assets.tables import read_table

_SHOWN = 100
_COLUMNS = ("path", *(each.name for each in fields(Quality) if each.name != "text_id"))


@corpus_asset("raw_documents")
def raw_documents(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> dg.MaterializeResult:
    return materialize(context, project, pictures=quality)


def quality(folder: Path) -> Metadata:
    """How the texts look, those with a problem first."""
    manifest = Manifest.from_json((folder / MANIFEST).read_text())
    sources = list(read_table(sources_path(folder, manifest), SourceDocument))
    paths = {row.text_id: row.path for row in reversed(sources)}
    rows = (
        {"path": paths[row.text_id], **vars(row)}
        for row in read_table(folder / "quality.parquet", Quality)
    )
    shown = nsmallest(_SHOWN, rows, key=lambda row: (row["problem"] is None, row["path"]))
    return {"quality": table([{**row, "problem": row["problem"] or ""} for row in shown], _COLUMNS)}
