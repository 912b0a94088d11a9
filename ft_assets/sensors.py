"""The sensor that watches `data/`: new folders, and files and settings that changed and settled."""

import json

import dagster as dg

from ft_assets.assets import observation
from ft_assets.errors import UserError
from ft_assets.freshness import GRAPH, digest, upstream
from ft_assets.partitions import corpus_partitions
from ft_assets.resources.project import Project


@dg.sensor(
    target=dg.AssetSelection.assets(*GRAPH),
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for a run, as far as automation.until, of each corpus that changed.",
)
def corpus_sensor(
    context: dg.SensorEvaluationContext, project: dg.ResourceParam[Project]
) -> dg.SensorResult:
    """Acts on a change when it is seen the same on two ticks: a file half-written has settled.

    The cursor holds, for each corpus, what was seen last, what was acted on last, and a count of
    the acts, which keeps a corpus that changes back to an earlier state from being overlooked.
    """
    cursor = json.loads(context.cursor or "{}")
    events: list[dg.AssetObservation] = []
    requests: list[dg.RunRequest] = []
    corpora = project.corpora()
    for corpus in corpora:
        try:
            observed = project.observed(corpus)
            until = project.config(corpus).automation.until
        except UserError as error:
            context.log.warning(f"{corpus} is left out until its settings are mended: {error}")
            continue
        state = digest(observed)
        last = cursor.get(corpus, {"seen": "", "acted": "", "count": 0})
        if state == last["seen"] and state != last["acted"]:
            last = {"seen": state, "acted": state, "count": last["count"] + 1}
            events += [
                observation(dg.AssetKey(key.split("/")), corpus, version)
                for key, version in observed.items()
            ]
            requests.append(_request(corpus, until, f"{corpus}:{last['count']}:{state}"))
        cursor[corpus] = {**last, "seen": state}
    known = context.instance.get_dynamic_partitions(corpus_partitions.name or "")
    new = [corpus for corpus in corpora if corpus not in known]
    return dg.SensorResult(
        dynamic_partitions_requests=[corpus_partitions.build_add_request(new)] if new else [],
        asset_events=events,
        run_requests=requests,
        cursor=json.dumps({corpus: cursor[corpus] for corpus in corpora if corpus in cursor}),
    )


def _request(corpus: str, until: str, key: str) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=key,
        partition_key=corpus,
        asset_selection=[dg.AssetKey(name) for name in [*upstream(until), until]],
    )
