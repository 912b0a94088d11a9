"""Observed sources: reporting to Dagster which files and settings an artifact was made from."""

from collections.abc import Callable

import dagster as dg

from ft_assets.defs.internals import forget_cached_inputs
from ft_assets.defs.metadata import Metadata
from ft_assets.defs.partitions import corpus_partitions
from ft_assets.engine.asset_settings import reads_any, settings_version
from ft_assets.engine.graph import CORPUS_FILES, GRAPH
from ft_assets.engine.pairs import cost_line
from ft_assets.engine.project import Project
from ft_assets.errors import in_words
from ft_assets.manifest import Manifest


def input_keys(asset: str) -> list[dg.AssetKey]:
    """The keys that an asset depends on: its inputs, and its settings if it reads any."""
    settings = [dg.AssetKey(["settings", asset])] if reads_any(asset) else []
    return [*(dg.AssetKey(name) for name in GRAPH[asset].inputs), *settings]


def report_read(context: dg.AssetExecutionContext, manifest: Manifest) -> None:
    """Reports the versions of the files and settings that this artifact was made from.

    So that Dagster's provenance names what the body read and not what a sensor saw last.
    """
    versions = {
        CORPUS_FILES: manifest.inputs.get(CORPUS_FILES, ""),
        f"settings/{manifest.asset}": settings_version(manifest.settings),
    }
    keys = [key for key in input_keys(manifest.asset) if key.to_user_string() in versions]
    for key in keys:
        report_version(context.instance, key, manifest.corpus, versions[key.to_user_string()])
    forget_cached_inputs(context, keys)


def report_version(
    instance: dg.DagsterInstance, key: dg.AssetKey, corpus: str, version: str
) -> None:
    """Records the version of an observed source, unless it is the one recorded last."""
    latest = instance.fetch_observations(
        dg.AssetRecordsFilter(asset_key=key, asset_partitions=[corpus]), limit=1
    ).records
    seen = latest[0].asset_observation if latest else None
    if seen and seen.tags.get("dagster/data_version") == version:
        return
    instance.report_runless_asset_event(observation(key, corpus, version))


def observation(key: dg.AssetKey, corpus: str, version: str) -> dg.AssetObservation:
    """The event that says which version of a source there is."""
    return dg.AssetObservation(key, partition=corpus, tags={"dagster/data_version": version})


def observed_versions(
    context: dg.OpExecutionContext, project: Project, version_of: Callable[[str], str]
) -> dg.DataVersionsByPartition:
    """The version of an observed source for each corpus that is a partition; one that cannot be told
    is left out with a warning, and does not stop the others.
    """
    known = context.instance.get_dynamic_partitions(corpus_partitions.name or "")
    versions = {}
    for corpus in set(project.corpora()) & set(known):
        try:
            versions[corpus] = version_of(corpus)
        except Exception as error:
            context.log.warning(f"{corpus} is left out: {in_words(error)}")
    return dg.DataVersionsByPartition(versions)


def report_cost_of_pairs(instance: dg.DagsterInstance, project: Project, corpus: str) -> Metadata:
    """Shows on the page of `qa_pairs` what building it would cost, if there is anything to say.

    Gives the same as metadata for another page.
    """
    event = observation_of_cost(project, corpus)
    if event is None:
        return {}
    instance.report_runless_asset_event(event)
    return dict(event.metadata)


def observation_of_cost(project: Project, corpus: str) -> dg.AssetObservation | None:
    """The event that says what building `qa_pairs` would cost; None if it is off or fresh."""
    try:
        line = cost_line(project, corpus)  # None if QA is off
        if line and project.status(corpus)["qa_pairs"].state == "fresh":
            line = None
    except Exception as error:  # what it would cost is not worth a failed tick
        line = in_words(error)
    if not line:
        return None
    metadata = {"cost_before": dg.MetadataValue.text(line)}
    return dg.AssetObservation(dg.AssetKey("qa_pairs"), partition=corpus, metadata=metadata)
