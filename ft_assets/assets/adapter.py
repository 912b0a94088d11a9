"""`adapter`: the LoRA adapter, with its loss curve."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import dagster as dg

from ft_assets.assets import corpus_asset, materialize
from ft_assets.resources.project import Project
from ft_assets.stages.adapter import LOSS_HISTORY


@corpus_asset("adapter")
def adapter(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> dg.MaterializeResult:
    return materialize(context, project, loss_curve)


def loss_curve(folder: Path) -> dict[str, Any]:
    """The loss at each step as a picture."""
    from matplotlib.figure import Figure

    history = json.loads((folder / LOSS_HISTORY).read_text())
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([entry["step"] for entry in history], [entry["loss"] for entry in history])
    axes.set(xlabel="step", ylabel="training loss", ylim=(0, None))
    axes.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=90)
    encoded = base64.b64encode(picture.getvalue()).decode()
    return {"loss_curve": dg.MetadataValue.md(f"![loss](data:image/png;base64,{encoded})")}
