"""The sensor that watches Message Batches: once all of a corpus have ended, it asks for a run."""

from datetime import UTC, datetime

import dagster as dg

from ft_assets.engine.graph import GRAPH, upstream
from ft_assets.engine.project import Project
from ft_assets.errors import in_words
from ft_assets.stages.qa.batches import APPEARS, LOST_AFTER
from ft_assets.stages.qa.ledger.batch_log import Batch, BatchLog
from ft_assets.stages.qa.providers.claude_batches import ClaudeBatches, UnreachableError
from ft_assets.stages.qa.retry import ONCE
from ft_assets.stages.words import counted

_SECONDS = 60
_TIMEOUT_SECONDS = 5.0
"""Dagster gives a tick a minute."""
ASSET = "qa_pairs"


def build_batch_sensor(seconds: int = _SECONDS) -> dg.SensorDefinition:
    """The sensor, looking every so many seconds."""

    @dg.sensor(
        name="batch_sensor",
        target=dg.AssetSelection.assets(*GRAPH),
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for a run up to automation.until once batches of questions have ended.",
    )
    def batch_sensor(
        context: dg.SensorEvaluationContext, project: dg.ResourceParam[Project]
    ) -> list[dg.RunRequest] | dg.SkipReason:
        waits = []
        requests = []
        for corpus in project.corpora():
            try:
                batches = BatchLog(project.storage.keep(corpus, ASSET)).under_way
                why = _why_it_waits(project, corpus, batches) if batches else ""
            except Exception as error:  # one corpus does not stop the others
                waits.append(f"{corpus}: {in_words(error)}")
                continue
            if why:
                waits.append(f"{corpus} {why}")
            elif batches:
                requests.append(_request(project, corpus, batches))
        return requests or dg.SkipReason("; ".join(waits) or "no batch is pending")

    return batch_sensor


def _why_it_waits(project: Project, corpus: str, batches: list[Batch]) -> str:
    """Why a run would find out no more about batches that are under way; empty if it would."""
    qa, count = project.config(corpus).qa, counted(len(batches), "batch", "batches")
    if not project.config(corpus).automation.spend:
        return (
            f"has {count} to collect: automation.spend is false in the shared finetune.yaml, so "
            f"run ft-assets generate-qa {corpus}"
        )
    if not qa.enabled or ":" in qa.model:
        return f"has {count} pending: set qa.enabled and qa.model back to collect them"
    service = ClaudeBatches(qa.base_url, ONCE, timeout=_TIMEOUT_SECONDS)
    try:
        news = all(_has_news(service, batch) for batch in batches)
    except UnreachableError as error:
        return f"waits for {count}, whose state cannot be read now ({error})"
    return "" if news else f"waits for {count}"


def _has_news(service: ClaudeBatches, batch: Batch) -> bool:
    """Whether a run would find out more about a batch."""
    age = datetime.now(UTC) - batch.sent
    if not batch.id:
        return age > APPEARS
    state = service.state(batch.id)
    return state in ("ended", "gone") or (state == "not found" and age > LOST_AFTER)


def _request(project: Project, corpus: str, batches: list[Batch]) -> dg.RunRequest:
    """A run for these batches; if it could not collect them, another an hour later."""
    until: str = project.config(corpus).automation.until
    if ASSET not in [*upstream(until), until]:
        until = ASSET
    names = "-".join(batch.name for batch in batches[:3])
    return dg.RunRequest(
        run_key=f"{corpus}:{names}:{datetime.now(UTC):%Y%m%d%H}",
        partition_key=corpus,
        asset_selection=[dg.AssetKey(name) for name in [*upstream(until), until]],
    )
