"""`chunks`: the documents cut to size, with a picture of their lengths."""

from array import array
from pathlib import Path

import dagster as dg

from ft_assets.defs.materialize import corpus_asset, materialize
from ft_assets.defs.metadata import Metadata
from ft_assets.defs.observations import report_cost_of_pairs
from ft_assets.defs.pictures import histogram
from ft_assets.engine.project import Project
from ft_assets.records import CHUNKS
from ft_assets.tables import read_batches


@corpus_asset("chunks")
def chunks(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> dg.MaterializeResult:
    def pictures(folder: Path) -> Metadata:
        cost = report_cost_of_pairs(context.instance, project, context.partition_key)
        return {**lengths(folder), **cost}

    return materialize(context, project, pictures=pictures)


def lengths(folder: Path) -> Metadata:
    """How long the chunks are."""
    found = array("q")
    for rows in read_batches(folder / CHUNKS, ["start", "end"]):
        found.frombytes((rows["end"].to_numpy() - rows["start"].to_numpy()).tobytes())
    return {"lengths": histogram("lengths", "characters", {"chunks": found})}
