"""`chunks`: documents cut to size."""

import dagster as dg

from ft_assets.assets import corpus_asset, materialize
from ft_assets.resources.project import Project


@corpus_asset("chunks")
def chunks(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> dg.MaterializeResult:
    return materialize(context, project)
