"""The sensor that watches Message Batches: once all of a corpus have ended, it asks for a run."""

from datetime import UTC, datetime

import dagster as dg

from ft_assets.errors import StageError, UserError
from ft_assets.freshness import GRAPH, upstream
from ft_assets.resources.project import Project
from ft_assets.stages.qa.batch_log import Batch, BatchLog
from ft_assets.stages.qa.batches import APPEARS
from ft_assets.stages.qa.claude_batches import ClaudeBatches, UnreachableError

_SECONDS = 60
ASSET = "qa_pairs"


def build_batch_sensor(seconds: int = _SECONDS) -> dg.SensorDefinition:
    """The sensor, looking every so many seconds."""

    @dg.sensor(
        name="batch_sensor",
        target=dg.AssetSelection.assets(*GRAPH),
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Goes on, as far as automation.until, where batches of questions have ended.",
    )
    def batch_sensor(
        context: dg.SensorEvaluationContext, project: dg.ResourceParam[Project]
    ) -> list[dg.RunRequest] | dg.SkipReason:
        waits = []
        requests = []
        for corpus in project.corpora():
            batches = BatchLog(project.storage.keep(corpus, ASSET)).under_way
            if not batches:
                continue
            try:
                if all(_has_news(project, corpus, batch) for batch in batches):
                    requests.append(_request(project, corpus, batches))
                    continue
                waits.append(f"{corpus} waits for {len(batches)} batches")
            except (UserError, StageError, UnreachableError) as error:
                waits.append(f"{corpus}: {error}")
        return requests or dg.SkipReason("; ".join(waits) or "no batch is under way")

    return batch_sensor


def _has_news(project: Project, corpus: str, batch: Batch) -> bool:
    """Whether a run would find out more about a batch."""
    if not batch.id:
        return datetime.now(UTC) - batch.sent > APPEARS
    service = ClaudeBatches(project.config(corpus).qa.base_url)
    return service.state(batch.id) != "under way"


def _request(project: Project, corpus: str, batches: list[Batch]) -> dg.RunRequest:
    """A run for these batches; where it could not collect them, another an hour later."""
    wanted: str = project.config(corpus).automation.until
    until = wanted if ASSET in [*upstream(wanted), wanted] else ASSET
    names = "-".join(batch.name for batch in batches[:3])
    return dg.RunRequest(
        run_key=f"{corpus}:{names}:{datetime.now(UTC):%Y%m%d%H}",
        partition_key=corpus,
        asset_selection=[dg.AssetKey(name) for name in [*upstream(until), until]],
    )
