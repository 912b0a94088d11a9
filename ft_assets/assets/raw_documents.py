"""`raw_documents`: text and instruction records of the corpus."""

import dagster as dg

from ft_assets.assets import corpus_asset, materialize
from ft_assets.resources.project import Project


@corpus_asset("raw_documents")
def raw_documents(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> dg.MaterializeResult:
    return materialize(context, project)
