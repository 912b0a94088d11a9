"""How an asset is declared from its node in the graph, and how building it becomes a materialization."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from ft_assets.compute import Compute
from ft_assets.defs.checks import check_results, check_specs
from ft_assets.defs.internals import wait_quietly_for_pools
from ft_assets.defs.metadata import Metadata, common_metadata, failed_checks, samples
from ft_assets.defs.observations import input_keys, report_read
from ft_assets.defs.partitions import corpus_partitions
from ft_assets.defs.tags import (
    DATA,
    FORCE_TAG,
    MODEL,
    REUSE_TAG,
    SENSOR_TAG,
    SETTLED_TAG,
    WAITING_TAG,
    WORKER_POOL,
)
from ft_assets.defs.waits import in_words
from ft_assets.engine.graph import GRAPH
from ft_assets.engine.project import Project
from ft_assets.engine.verdicts import naming_files
from ft_assets.errors import StageError, UserError, WaitingError, exit_code

wait_quietly_for_pools()

Pictures = Callable[[Path], Metadata]
"""Gives metadata worth looking at from an artifact's folder."""


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
        group_name=MODEL if node.heavy else DATA,
        kinds={"pytorch"} if node.heavy else {"parquet"},
        pool=WORKER_POOL if node.heavy else None,
    )


def materialize(
    context: dg.AssetExecutionContext,
    project: Project,
    compute: Compute | None = None,
    pictures: Pictures | None = None,
) -> dg.MaterializeResult:
    """Builds the asset of this step for the corpus of this run, or finds it unchanged.

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
            describe=partial(in_words, context.instance),
            may_spend=_may_spend(project, corpus, tags),
        )
    except (UserError, StageError) as error:
        if isinstance(error, WaitingError):
            context.instance.add_run_tags(context.run.run_id, {WAITING_TAG: asset})
            raise failure(error) from None  # nothing went wrong: a traceback would say so
        raise failure(error) from error
    report_read(context, made.manifest)
    folder = project.storage.folder(corpus, asset, made.manifest.version)
    context.log.info(f"{asset} of {corpus}: {'unchanged' if made.reused else 'built'}")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(made.manifest.version),
        metadata={
            **failed_checks(project.storage, made.manifest),
            **(pictures(folder) if pictures else {}),
            **samples(project.storage, made.manifest),
            **common_metadata(project.storage, made.manifest, reused=made.reused),
        },
        check_results=list(check_results(naming_files(project.storage, made.manifest))),
    )


def _may_spend(project: Project, corpus: str, tags: Mapping[str, str]) -> bool:
    """What a person starts may spend within the caps; what a sensor starts only if the owner says so."""
    return SENSOR_TAG not in tags or project.config(corpus).automation.spend


def is_over(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether Dagster knows this run to be over."""
    run = instance.get_run_by_id(run_id)
    return run is not None and run.is_finished


def failure(error: UserError | StageError) -> dg.Failure:
    """An error of the project's as Dagster records it: the message, and the exit code it means."""
    return dg.Failure(str(error), metadata={"exit_code": exit_code(error)}, allow_retries=False)
