"""`evaluation`: base and tuned compared, their answers side by side."""

import json
from itertools import islice
from pathlib import Path

import dagster as dg

from ft_assets.compute import Compute
from ft_assets.defs.materialize import corpus_asset, materialize
from ft_assets.defs.metadata import Metadata, table
from ft_assets.defs.pictures import bars
from ft_assets.engine.project import Project
from ft_assets.records import ComparedAnswer
from ft_assets.tables import read_table

_SHOWN = 100


@corpus_asset("evaluation")
def evaluation(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    compute: dg.ResourceParam[Compute],
) -> dg.MaterializeResult:
    return materialize(context, project, compute, comparison)


def comparison(folder: Path) -> Metadata:
    """Base beside tuned: the losses as a picture, the first answers as a table."""
    metrics = json.loads((folder / "metrics.json").read_text())
    losses = {
        who: metrics[f"{who}_eval_loss"]
        for who in ("base", "tuned")
        if f"{who}_eval_loss" in metrics
    }
    rows = [
        vars(row) for row in islice(read_table(folder / "answers.parquet", ComparedAnswer), _SHOWN)
    ]
    columns = ("question", "key_fact", "base_answer", "tuned_answer", "base_hit", "tuned_hit")
    picture = {"losses": bars("losses", "eval loss", losses)} if losses else {}
    return {**picture, "answers": table(rows, columns)}
