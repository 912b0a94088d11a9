"""`qa_pairs`: question-answer pairs made from the chunks."""

import dagster as dg

from ft_assets.assets import corpus_asset, materialize
from ft_assets.resources.project import Project


@corpus_asset("qa_pairs")
def qa_pairs(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> dg.MaterializeResult:
    return materialize(context, project)
