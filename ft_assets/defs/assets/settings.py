"""`settings/<asset>`: the observed settings that each asset reads, a digest for each corpus."""

import dagster as dg

from ft_assets.defs.observations import observed_versions, report_cost_of_pairs
from ft_assets.defs.partitions import corpus_partitions
from ft_assets.defs.tags import CORPUS
from ft_assets.engine.asset_settings import reads_any
from ft_assets.engine.graph import GRAPH
from ft_assets.engine.project import Project


def _settings_of(asset: str) -> dg.SourceAsset:
    @dg.observable_source_asset(
        key=["settings", asset],
        partitions_def=corpus_partitions,
        group_name=CORPUS,
        description=f"Digest of the settings that `{asset}` reads.",
    )
    def observe_settings(
        context: dg.OpExecutionContext, project: dg.ResourceParam[Project]
    ) -> dg.DataVersionsByPartition:
        def version_of(corpus: str) -> str:
            version = project.settings_version(corpus, asset, project.config(corpus))
            if asset == "qa_pairs":
                report_cost_of_pairs(context.instance, project, corpus)
            return version

        return observed_versions(context, project, version_of)

    return observe_settings


settings = [_settings_of(asset) for asset in GRAPH if reads_any(asset)]
