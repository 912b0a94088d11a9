"""The graph: one file a noun, bodies of a few lines.

Here is only what they share: how an asset is declared from its node in `freshness.GRAPH`, and how
making it becomes a Dagster materialization. What the work is stands in `stages/`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from ft_assets.checks import check_results, check_specs
from ft_assets.compute import Compute
from ft_assets.dagster_internals import forget_cached_inputs, wait_quietly_for_pools
from ft_assets.errors import StageError, UserError, WaitingError, exit_code
from ft_assets.freshness import CORPUS_FILES, GRAPH, Manifest, settings_version
from ft_assets.lineage import COLUMNS, documents_behind
from ft_assets.partitions import corpus_partitions
from ft_assets.qa import cost_line
from ft_assets.resources.project import Project
from ft_assets.resources.storage import Storage

wait_quietly_for_pools()

FORCE_TAG = "ft_assets/force"
REUSE_TAG = "ft_assets/reuse"
"""The assets, by comma, that the run may only find unchanged."""
SETTLED_TAG = "ft_assets/settled"
"""The version of `corpus_files` that the run was asked for."""
WAITING_TAG = "ft_assets/waiting"
"""On a run that ended because this asset of it waits for a batch: no failure."""
WORKER_POOL = "worker"
"""What heavy assets wait for: `dagster.yaml` lets one at a time through."""
_TABLE_ROWS = 200
"""Rows of a table that go into Dagster's event log; the artifact has them all."""

Pictures = Callable[[Path], Mapping[str, Any]]
"""Gives metadata worth looking at from an artifact's folder."""


def input_keys(asset: str) -> list[dg.AssetKey]:
    """The keys an asset hangs on: its inputs, and its settings where it reads any."""
    settings = [dg.AssetKey(["settings", asset])] if GRAPH[asset].settings else []
    return [*(dg.AssetKey(name) for name in GRAPH[asset].inputs), *settings]


def corpus_asset(asset: str) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Declares an asset of the graph, partitioned by corpus, as its node says."""
    node = GRAPH[asset]
    return dg.asset(
        key=asset,
        deps=input_keys(asset),
        partitions_def=corpus_partitions,
        code_version=node.code_version,
        description=node.description,
        check_specs=check_specs(asset),
        group_name="model" if node.heavy else "data",
        kinds={"pytorch"} if node.heavy else {"parquet"},
        pool=WORKER_POOL if node.heavy else None,
    )


def materialize(
    context: dg.AssetExecutionContext,
    project: Project,
    compute: Compute | None = None,
    pictures: Pictures | None = None,
) -> dg.MaterializeResult:
    """Makes the asset of this step for the corpus of this run, or finds it unchanged.

    With `compute` the work is done there, else in this process.
    """
    asset, corpus = context.asset_key.to_user_string(), context.partition_key
    tags = context.run.tags
    reuse_only = asset in tags.get(REUSE_TAG, "").split(",")
    try:
        made = project.make(
            corpus,
            asset,
            partial(compute.run, context) if compute else None,
            report=context.log.info,
            force=tags.get(FORCE_TAG) == "true" and not reuse_only,
            reuse_only=reuse_only,
            settled=tags.get(SETTLED_TAG),
            run_id=context.run.run_id,
            is_over=partial(is_over, context.instance),
        )
    except (UserError, StageError) as error:
        if isinstance(error, WaitingError):
            context.instance.add_run_tags(context.run.run_id, {WAITING_TAG: asset})
            raise failure(error) from None  # nothing went wrong: a traceback would say so
        raise failure(error) from error
    report_read(context, made.manifest)
    folder = project.storage.folder(corpus, asset, made.manifest.version)
    context.log.info(f"{asset} of {corpus}: {'unchanged' if made.reused else 'made'}")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(made.manifest.version),
        metadata={
            **(pictures(folder) if pictures else {}),
            **common_metadata(project.storage, made.manifest, reused=made.reused),
        },
        check_results=list(check_results(made.manifest)),
    )


def is_over(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether Dagster knows this run to have come to its end."""
    run = instance.get_run_by_id(run_id)
    return run is not None and run.is_finished


def failure(error: UserError | StageError) -> dg.Failure:
    """An error of the project's as Dagster records it: the message, and the exit code it means."""
    return dg.Failure(str(error), metadata={"exit_code": exit_code(error)}, allow_retries=False)


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


def report_cost_of_pairs(
    instance: dg.DagsterInstance, project: Project, corpus: str
) -> dict[str, Any]:
    """Shows on the page of `qa_pairs` what making it would cost, where that is to be said.

    Gives the same as metadata for another page.
    """
    event = observation_of_cost(project, corpus)
    if event is None:
        return {}
    instance.report_runless_asset_event(event)
    return dict(event.metadata)


def observation_of_cost(project: Project, corpus: str) -> dg.AssetObservation | None:
    """The event that says what making `qa_pairs` would cost; None where it is off or fresh."""
    try:
        line = cost_line(project, corpus)  # None where QA is off
        if line and project.status(corpus)["qa_pairs"].state == "fresh":
            line = None
    except (UserError, StageError, OSError) as error:
        line = str(error)
    if not line:
        return None
    metadata = {"cost_before": dg.MetadataValue.text(line)}
    return dg.AssetObservation(dg.AssetKey("qa_pairs"), partition=corpus, metadata=metadata)


def common_metadata(storage: Storage, manifest: Manifest, *, reused: bool) -> dict[str, Any]:
    """What every partition page shows: counts, what it was made from, the documents behind it."""
    folder = storage.folder(manifest.corpus, manifest.asset, manifest.version)
    documents = list(documents_behind(storage, manifest))
    return {
        "reused": reused,
        "reason": manifest.reason,
        "made_from": dg.MetadataValue.md(_links(manifest)),
        "folder": dg.MetadataValue.path(folder),
        **{
            name: dg.MetadataValue.float(float(value))
            if isinstance(value, float)
            else dg.MetadataValue.int(value)
            for name, value in manifest.counts.items()
        },
        **manifest.cost,
        "documents": table(
            [{**line, "document_id": line["document_id"][:12]} for line in documents[:_TABLE_ROWS]],
            tuple(name for name in COLUMNS if name != "text_id"),
        ),
    }


def _links(manifest: Manifest) -> str:
    """The inputs as links to their pages of the same corpus."""
    lines = [
        f"- [{name}](/assets/{name}?view=partitions&partition={manifest.corpus}) `{version}`"
        for name, version in manifest.inputs.items()
    ]
    return "\n".join(lines)


def table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> dg.TableMetadataValue:
    """Rows as a table on the page, all values as text."""
    return dg.MetadataValue.table(
        [dg.TableRecord({name: str(row.get(name, "")) for name in columns}) for row in rows],
        schema=dg.TableSchema([dg.TableColumn(name) for name in columns]),
    )
