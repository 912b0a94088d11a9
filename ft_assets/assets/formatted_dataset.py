"""`formatted_dataset`: rows rendered by the template, split into train and eval."""

import dagster as dg

from ft_assets.assets import corpus_asset, materialize
from ft_assets.resources.project import Project


@corpus_asset("formatted_dataset")
def formatted_dataset(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> dg.MaterializeResult:
    return materialize(context, project)
