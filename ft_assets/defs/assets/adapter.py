"""`adapter`: the LoRA adapter, with its loss curve."""

import json
from pathlib import Path

import dagster as dg

from ft_assets.compute import Compute
from ft_assets.defs import pictures
from ft_assets.defs.materialize import corpus_asset, materialize
from ft_assets.defs.metadata import Metadata
from ft_assets.engine.project import Project
from ft_assets.engine.storage import RUNS
from ft_assets.stages.adapter import LOSS_HISTORY
from ft_assets.stages.training.run_log import look_at


@corpus_asset("adapter")
def adapter(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    compute: dg.ResourceParam[Compute],
) -> dg.MaterializeResult:
    return materialize(context, project, compute, loss_curve)


def loss_curve(folder: Path) -> Metadata:
    """The loss at each step, and that on held-out rows, as a picture, and what shows more of it."""
    history = json.loads((folder / LOSS_HISTORY).read_text())
    training, held_out = (
        [(entry["step"], entry[key]) for entry in history if key in entry]
        for key in ("loss", "eval_loss")
    )
    curve: Metadata = {"loss_curve": pictures.loss_curve(training, held_out)}
    runs = folder.parent / RUNS
    return {**curve, "tensorboard": look_at(runs)} if runs.is_dir() else curve
