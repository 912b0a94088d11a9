"""`corpus_files`: the observed files of each corpus folder."""

import dagster as dg

from ft_assets.defs.observations import observed_versions
from ft_assets.defs.partitions import corpus_partitions
from ft_assets.defs.tags import CORPUS
from ft_assets.engine.data_folder import files_version
from ft_assets.engine.project import Project


@dg.observable_source_asset(
    name="corpus_files",
    partitions_def=corpus_partitions,
    group_name=CORPUS,
    description="Path, size and sha256 of each file in `data/<corpus>/`.",
)
def corpus_files(
    context: dg.OpExecutionContext, project: dg.ResourceParam[Project]
) -> dg.DataVersionsByPartition:
    return observed_versions(context, project, lambda corpus: files_version(project.files(corpus)))
