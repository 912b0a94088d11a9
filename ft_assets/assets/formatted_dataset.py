"""`formatted_dataset`: rows rendered by the template, with a picture of their lengths."""

from pathlib import Path
from typing import Any

import dagster as dg

from ft_assets.assets import corpus_asset, materialize
from ft_assets.pictures import histogram
from ft_assets.records import read_batches, values
from ft_assets.resources.project import Project


@corpus_asset("formatted_dataset")
def formatted_dataset(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> dg.MaterializeResult:
    return materialize(context, project, pictures=lengths)


def lengths(folder: Path) -> dict[str, Any]:
    """How long the rows of each split are."""
    found = {
        split: [
            tokens
            for rows in read_batches(folder / f"{split}.parquet", ["tokens"])
            for tokens in values(rows, "tokens")
        ]
        for split in ("train", "eval")
    }
    return {"lengths": histogram("lengths", "tokens", found)}
