"""`settings/<asset>`: the observed settings that each asset reads, a digest for each corpus."""

import dagster as dg

from ft_assets.defs.observations import report_cost_of_pairs
from ft_assets.defs.partitions import corpus_partitions
from ft_assets.engine.asset_settings import reads_any
from ft_assets.engine.graph import GRAPH
from ft_assets.engine.project import Project
from ft_assets.errors import in_words


def _settings_of(asset: str) -> dg.SourceAsset:
    @dg.observable_source_asset(
        key=["settings", asset],
        partitions_def=corpus_partitions,
        group_name="settings",
        description=f"Digest of just those settings that `{asset}` reads.",
    )
    def observe_settings(
        context: dg.OpExecutionContext, project: dg.ResourceParam[Project]
    ) -> dg.DataVersionsByPartition:
        known = context.instance.get_dynamic_partitions("corpus")
        versions = {}
        for corpus in set(project.corpora()) & set(known):
            try:
                config = project.config(corpus)
                versions[corpus] = project.settings_version(corpus, asset, config)
                if asset == "qa_pairs":
                    report_cost_of_pairs(context.instance, project, corpus)
            except Exception as error:  # one corpus does not stop the others
                context.log.warning(f"{corpus} is left out: {in_words(error)}")
        return dg.DataVersionsByPartition(versions)

    return observe_settings


settings = [_settings_of(asset) for asset in GRAPH if reads_any(asset)]
