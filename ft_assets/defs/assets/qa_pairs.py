"""`qa_pairs`: question-answer pairs made from the chunks, with a picture of what each chunk gave."""

from collections import Counter
from pathlib import Path

import dagster as dg

from ft_assets.defs.materialize import corpus_asset, materialize
from ft_assets.defs.metadata import Metadata, table
from ft_assets.defs.observations import report_cost_of_pairs
from ft_assets.defs.pictures import histogram
from ft_assets.engine.project import Project
from ft_assets.stages.qa_pairs import DROPPED, YIELDS
from ft_assets.tables import read_batches, values


@corpus_asset("qa_pairs")
def qa_pairs(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> dg.MaterializeResult:
    try:
        return materialize(context, project, pictures=kept_and_dropped)
    finally:
        report_cost_of_pairs(context.instance, project, context.partition_key)


def kept_and_dropped(folder: Path) -> Metadata:
    """How many pairs of each chunk are kept, and why the others are not."""
    if not (folder / YIELDS).exists():  # QA is off
        return {}
    kept = [n for rows in read_batches(folder / YIELDS, ["kept"]) for n in values(rows, "kept")]
    reasons = Counter(
        reason
        for rows in read_batches(folder / DROPPED, ["reason"])
        for reason in values(rows, "reason")
    )
    rows = [{"pairs": count, "dropped for": reason} for reason, count in reasons.most_common()]
    return {
        "kept_per_chunk": histogram("pairs kept per chunk", "pairs", {"chunks": kept}),
        "dropped_for": table(rows, ("pairs", "dropped for")),
    }
