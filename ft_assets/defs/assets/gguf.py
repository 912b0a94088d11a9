"""`gguf`: files for llama.cpp and Ollama, and the model card."""

import dagster as dg

from ft_assets.compute import Compute
from ft_assets.defs.materialize import corpus_asset, materialize
from ft_assets.engine.project import Project


@corpus_asset("gguf")
def gguf(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    compute: dg.ResourceParam[Compute],
) -> dg.MaterializeResult:
    return materialize(context, project, compute)
