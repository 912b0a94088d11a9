"""The sensor that watches `data/`: new folders, and files and settings that changed and settled."""

import json
from dataclasses import asdict, dataclass, replace

import dagster as dg

from ft_assets.defs.observations import observation, observation_of_cost
from ft_assets.defs.partitions import corpus_partitions
from ft_assets.defs.runs import close_dead_runs, has_died
from ft_assets.defs.tags import SETTLED_TAG
from ft_assets.engine.graph import CORPUS_FILES, GRAPH, upstream
from ft_assets.engine.project import Project
from ft_assets.errors import UserError
from ft_assets.manifest import digest


@dataclass(frozen=True)
class _Looked:
    """What is known of a corpus from earlier ticks: see `look`."""

    seen: str = ""
    acted: str = ""
    count: int = 0
    tries: int = 0


_TRIES = 3
"""How often a run is asked for that dies each time."""


def build_corpus_sensor(seconds: int) -> dg.SensorDefinition:
    """The sensor, looking every so many seconds."""

    @dg.sensor(
        name="corpus_sensor",
        target=dg.AssetSelection.assets(*GRAPH),
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for a run, as far as automation.until, of each corpus that changed.",
    )
    def corpus_sensor(
        context: dg.SensorEvaluationContext, project: dg.ResourceParam[Project]
    ) -> dg.SensorResult:
        for run_id in close_dead_runs(context.instance):
            context.log.warning(f"run {run_id} was closed: its process is gone")
        return look(context, project)

    return corpus_sensor


def look(context: dg.SensorEvaluationContext, project: Project) -> dg.SensorResult:
    """Acts on a change when it is seen the same on two ticks: a file half-written has settled.

    The cursor holds, for each corpus, what was seen last, what was acted on last, a count of the
    acts, which keeps a corpus that changes back to an earlier state from being overlooked, and how
    often a run was asked for while its end is open. A run that died is asked for again; one that
    failed is not, for it would fail again. A tick that was cut off is evaluated again with the
    cursor from before it, and asks for the same runs by the same keys, which Dagster starts once.
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
        state = digest([observed, until])
        last = _Looked(**cursor.get(corpus, {}))
        if state == last.seen and state != last.acted:
            last = _Looked(acted=state, count=last.count + 1, tries=1)
            events += [
                observation(dg.AssetKey(key.split("/")), corpus, version)
                for key, version in observed.items()
            ]
            if cost := observation_of_cost(project, corpus):
                events.append(cost)
            requests.append(_request(corpus, until, observed[CORPUS_FILES], last))
        elif state == last.acted and last.tries:
            last, again = _followed_up(context.instance, corpus, last)
            if again:
                requests.append(_request(corpus, until, observed[CORPUS_FILES], last))
        cursor[corpus] = asdict(replace(last, seen=state))
    known = context.instance.get_dynamic_partitions(corpus_partitions.name or "")
    new = [corpus for corpus in corpora if corpus not in known]
    return dg.SensorResult(
        dynamic_partitions_requests=[corpus_partitions.build_add_request(new)] if new else [],
        asset_events=events,
        run_requests=requests,
        cursor=json.dumps({corpus: cursor[corpus] for corpus in corpora if corpus in cursor}),
    )


def _request(corpus: str, until: str, files: str, last: _Looked) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=_run_key(corpus, last),
        partition_key=corpus,
        asset_selection=[dg.AssetKey(name) for name in [*upstream(until), until]],
        tags={SETTLED_TAG: files},
    )


def _run_key(corpus: str, last: _Looked) -> str:
    return f"{corpus}:{last.count}:{last.acted}"


def _followed_up(instance: dg.DagsterInstance, corpus: str, last: _Looked) -> tuple[_Looked, bool]:
    """What is known now of the run that was asked for, and whether to ask for it again."""
    runs = instance.get_runs(
        dg.RunsFilter(tags={"dagster/run_key": _run_key(corpus, last)}), limit=1
    )
    if not runs or not runs[0].is_finished:
        return last, False
    if has_died(instance, runs[0]) and last.tries < _TRIES:
        return replace(last, count=last.count + 1, tries=last.tries + 1), True
    return replace(last, tries=0), False
