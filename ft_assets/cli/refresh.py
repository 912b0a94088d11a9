"""Refreshes corpora, each in a Dagster run of its own. The command line and tests call this."""

import gc
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import dagster as dg

from ft_assets.cli.parallel import refresh_side_by_side
from ft_assets.cli.progress import Progress
from ft_assets.definitions import build_definitions
from ft_assets.defs.instance import dagster_home
from ft_assets.defs.internals import free_pool_slots, stale_status
from ft_assets.defs.internals_storage import kept_connections
from ft_assets.defs.partitions import corpus_partitions
from ft_assets.defs.runs import close_dead_runs, this_process
from ft_assets.defs.tags import (
    FORCE_TAG,
    PROCESS_TAG,
    REFRESH_JOB,
    REUSE_TAG,
    TERMINAL,
    USER_TAG,
)
from ft_assets.defs.waits import pool_waits_told_to
from ft_assets.engine.graph import upstream
from ft_assets.engine.project import Project
from ft_assets.errors import INTERRUPTED, WAITING, exit_code, gravest, in_words
from ft_assets.stages.training.checkpoints import kept_steps

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Dagster's own console lines stay out of the terminal; the event log has them all."""


@dataclass
class RefreshResult:
    """How a refresh ended: what it set out to build, what was fresh, what failed and why.

    `exit_code` is what that comes to.
    """

    making: list[str]
    fresh: list[str]
    ran: bool = False
    failures: dict[str, str] = field(default_factory=dict)
    exit_code: int = 0


def refresh_corpora(
    project: Project, corpora: list[str], until: str, progress: Progress, *, force: bool, jobs: int
) -> int:
    """Refreshes each corpus in a run of its own, up to `jobs` at once; returns the gravest code.

    A failed corpus does not stop the others; an interrupt stops all.
    """
    if jobs > 1 and len(corpora) > 1:
        dagster_home()
        with dg.DagsterInstance.get():
            pass  # makes the database once, before several processes would
        return refresh_side_by_side(corpora, until, progress, force=force, jobs=jobs)
    code = 0
    for corpus in corpora:
        try:
            found = refresh_corpus(project, corpus, until, progress.plan, force=force)
        except Exception as error:  # whatever is wrong with one corpus does not stop the others
            progress.fail(corpus, None, in_words(error))
            code = gravest(code, exit_code(error))
            continue
        progress.fresh(corpus, found.fresh, until, nothing_done=not found.ran)
        for asset, message in found.failures.items():
            progress.fail(corpus, asset, message, waits=found.exit_code == WAITING)
        code = gravest(code, found.exit_code)
        if code == INTERRUPTED:
            break
    return code


def refresh_corpus(
    project: Project,
    corpus: str,
    until: str,
    on_plan: Callable[[str, list[str]], None],
    *,
    force: bool = False,
    **overrides: Any,
) -> RefreshResult:
    """Rebuilds what is stale of `corpus` up to `until`, in this process, in one run.

    The run is recorded in the project's Dagster instance. What is fresh but unknown to Dagster, as
    under a new DAGSTER_HOME, is run too, and may only be found unchanged. If there is nothing to do,
    there is no run. `overrides` are those of `build_definitions`. Raises UserError and StageError if the
    state of the corpus cannot be determined.
    """
    wanted = [*upstream(until), until]
    states = project.status(corpus)
    forced = [until] if force else []
    making = [name for name in wanted if states[name].state != "fresh" or name in forced]
    dagster_home()
    with kept_connections(), dg.DagsterInstance.get() as instance:
        close_dead_runs(instance)
        instance.add_dynamic_partitions(corpus_partitions.name or "", [corpus])
        definitions = build_definitions(project=project, **overrides)
        seen = stale_status(instance, definitions, wanted, corpus)
        reusing = [name for name in wanted if name not in making and seen[name] != "FRESH"]
        found = RefreshResult(making, [name for name in wanted if name not in making])
        if not making and not reusing:
            return found
        found.ran = True
        on_plan(corpus, making)
        _keep_what_is_loaded()
        with pool_waits_told_to(project.notice):
            result = definitions.resolve_job_def(REFRESH_JOB).execute_in_process(
                instance=instance,
                partition_key=corpus,
                asset_selection=[
                    dg.AssetKey(name) for name in wanted if name in {*making, *reusing}
                ],
                run_config=_QUIET,
                tags=_tags(reusing, force),
                raise_on_error=False,
            )
        if not result.success:
            free_pool_slots(instance, result.run_id)
    for event in result.all_events:
        if event.is_step_failure and event.step_key:
            _add_failure(found, event.step_key, event)
    if found.exit_code == INTERRUPTED:
        _say_what_is_kept(found, project, corpus)
    if not result.success:
        found.exit_code = found.exit_code or 3
        if not found.failures:
            found.failures["run"] = f"the run {result.run_id} failed; see it in the UI"
    return found


def _tags(reusing: list[str], force: bool) -> dict[str, str]:
    """What a run of the command line says of itself."""
    tags = {USER_TAG: TERMINAL, PROCESS_TAG: this_process()}
    if reusing:
        tags[REUSE_TAG] = ",".join(reusing)
    if force:
        tags[FORCE_TAG] = "true"
    return tags


@cache
def _keep_what_is_loaded() -> None:
    """Once: has the garbage collector leave alone what is loaded by now; it is needed to the end.

    Going through all of Dagster, SQLAlchemy and the graph again and again took a fifth of the CPU time.
    """
    gc.freeze()


def _say_what_is_kept(found: RefreshResult, project: Project, corpus: str) -> None:
    """Adds to the message of an interrupted training how many steps the next one resumes from."""
    for asset in found.failures:
        for folder in project.storage.left_checkpoints(corpus, asset):
            if kept := kept_steps(folder):
                found.failures[asset] += (
                    f"; {kept} are kept, and the next refresh resumes from there"
                )


def _add_failure(found: RefreshResult, asset: str, event: dg.DagsterEvent) -> None:
    """Notes a failed step: what the body said, or else the error that ended it."""
    failure = event.step_failure_data
    said = failure.user_failure_data
    if said and said.description:
        code = said.metadata.get("exit_code")
        found.failures[asset] = said.description
        found.exit_code = gravest(found.exit_code, int(code.value) if code else 3)  # type: ignore[arg-type]
    elif failure.error and failure.error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
        found.failures[asset] = (
            "interrupted; what was published before is still current: refresh to continue with "
            "this asset"
        )
        found.exit_code = INTERRUPTED
    elif failure.error:
        cause = failure.error.cause or failure.error
        found.failures[asset] = f"{cause.message.strip()} (--debug shows where)"
        if os.environ.get("FT_ASSETS_DEBUG"):
            found.failures[asset] = failure.error.to_string()
        found.exit_code = 3
