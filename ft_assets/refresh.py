"""One Dagster run that makes what a corpus wants made. The command line and tests call this."""

import os
from dataclasses import dataclass, field

import dagster as dg

from ft_assets.assets import FORCE_TAG
from ft_assets.definitions import REFRESH_JOB, build_definitions
from ft_assets.errors import INTERRUPTED
from ft_assets.instance import dagster_home
from ft_assets.partitions import corpus_partitions
from ft_assets.resources.project import Project

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Dagster's own console lines stay out of the terminal; the event log has them all."""


@dataclass
class RefreshResult:
    """How a run ended: what failed and why, and the exit code that this comes to."""

    run_id: str
    failures: dict[str, str] = field(default_factory=dict)
    exit_code: int = 0


def refresh_corpus(
    project: Project, corpus: str, assets: list[str], *, force: bool = False
) -> RefreshResult:
    """Runs `assets` of `corpus` in this process, recorded in the project's Dagster instance."""
    os.environ["DAGSTER_HOME"] = str(dagster_home())
    tags = {FORCE_TAG: "true"} if force else {}
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions(corpus_partitions.name or "", [corpus])
        job = build_definitions(project=project).resolve_job_def(REFRESH_JOB)
        result = job.execute_in_process(
            instance=instance,
            partition_key=corpus,
            asset_selection=[dg.AssetKey(name) for name in assets],
            run_config=_QUIET,
            tags=tags,
            raise_on_error=False,
        )
    found = RefreshResult(result.run_id)
    for event in result.all_events:
        if event.is_step_failure and event.step_key:
            _add_failure(found, event.step_key, event)
    if not result.success:
        found.exit_code = found.exit_code or 3
        if not found.failures:
            found.failures["run"] = f"the run {result.run_id} failed; see it in the UI"
    return found


def _add_failure(found: RefreshResult, asset: str, event: dg.DagsterEvent) -> None:
    """Notes a failed step: what the body said, or else the error that ended it."""
    failure = event.step_failure_data
    said = failure.user_failure_data
    if said and said.description:
        code = said.metadata.get("exit_code")
        found.failures[asset] = said.description
        found.exit_code = max(found.exit_code, int(code.value) if code else 3)  # type: ignore[arg-type]
    elif failure.error and failure.error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
        found.failures[asset] = (
            "interrupted; what was published before is still current, and running again goes on "
            "with this asset"
        )
        found.exit_code = INTERRUPTED
    elif failure.error:
        cause = failure.error.cause or failure.error
        found.failures[asset] = f"{cause.message.strip()} (--debug shows where)"
        if os.environ.get("FT_ASSETS_DEBUG"):
            found.failures[asset] = failure.error.to_string()
        found.exit_code = 3
