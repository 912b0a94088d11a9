"""`corpus_files`: the observed files of each corpus folder."""

import dagster as dg

from ft_assets.defs.partitions import corpus_partitions
from ft_assets.engine.data_folder import files_version
from ft_assets.engine.project import Project
from ft_assets.errors import in_words


@dg.observable_source_asset(
    name="corpus_files",
    partitions_def=corpus_partitions,
    group_name="corpus",
    description="Path, size and sha256 of each file in `data/<corpus>/`.",
)
def corpus_files(
    context: dg.OpExecutionContext, project: dg.ResourceParam[Project]
) -> dg.DataVersionsByPartition:
    known = context.instance.get_dynamic_partitions("corpus")
    versions = {}
    for corpus in set(project.corpora()) & set(known):
        try:
            versions[corpus] = files_version(project.files(corpus))
        except Exception as error:  # one corpus does not stop the others
            context.log.warning(f"{corpus} is left out: {in_words(error)}")
    return dg.DataVersionsByPartition(versions)
