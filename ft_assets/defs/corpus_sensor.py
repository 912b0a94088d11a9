"""The sensor that watches `data/`: new folders, and files and settings that changed and settled."""

import json
import time
from dataclasses import asdict, dataclass, replace

import dagster as dg

from ft_assets.defs.observations import observation, observation_of_cost
from ft_assets.defs.partitions import corpus_partitions
from ft_assets.defs.runs import close_dead_runs, has_died
from ft_assets.defs.tags import SETTLED_TAG
from ft_assets.engine.data_folder import SlowError
from ft_assets.engine.graph import CORPUS_FILES, GRAPH, upstream
from ft_assets.engine.project import Project
from ft_assets.errors import in_words
from ft_assets.files import visible
from ft_assets.manifest import digest
from ft_assets.stages.words import counted


@dataclass(frozen=True)
class _Looked:
    """What is known of a corpus: the state that was `seen` last, the one `acted` on last, the number of
    acts (which keeps a corpus that changes back to an earlier state from being overlooked), how often a
    run was asked for while its end is open, and the `problem` that was said last.
    """

    seen: str = ""
    acted: str = ""
    count: int = 0
    tries: int = 0
    problem: str = ""


_FIRST = "/first"
"""The cursor's key for the corpus to begin with; no corpus has such a name."""
_CORPUS_SECONDS, _TICK_SECONDS = 8.0, 40.0
"""What one corpus, and all together, may take of a tick, to which Dagster gives a minute."""
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
            context.log.warning(f"run {run_id} was closed: its process no longer exists")
        return look(context, project)

    return corpus_sensor


def look(context: dg.SensorEvaluationContext, project: Project) -> dg.SensorResult:
    """Acts on a change when it is seen the same on two ticks: a file half-written has settled.

    The cursor holds what is known of each corpus (`_Looked`), and whose turn it is first if the last
    tick had no time for all. A run that died is asked for again; one that failed is not, for it would
    fail again. A tick that was cut off is evaluated again with the cursor from before it, and asks for
    the same runs by the same keys, which Dagster starts once. Whatever is wrong with one corpus, the
    others are looked at, and it is said on its page.
    """
    cursor = json.loads(context.cursor or "{}")
    until = time.monotonic() + _TICK_SECONDS
    corpora = project.corpora()
    tick = _Tick(context, project)
    first = cursor.pop(_FIRST, "")
    for corpus in sorted(corpora, key=lambda name: (name < first, name)):
        if time.monotonic() > until:
            cursor[_FIRST] = corpus
            break
        cursor[corpus] = asdict(tick.look_at(corpus, _Looked(**cursor.get(corpus, {}))))
    known = context.instance.get_dynamic_partitions(corpus_partitions.name or "")
    new = [corpus for corpus in corpora if corpus not in known]
    kept = {_FIRST, *corpora}
    return dg.SensorResult(
        skip_reason=None if tick.requests else tick.in_words(),
        dynamic_partitions_requests=[corpus_partitions.build_add_request(new)] if new else [],
        asset_events=tick.events,
        run_requests=tick.requests,
        cursor=json.dumps({name: known for name, known in cursor.items() if name in kept}),
    )


class _Tick:
    """What one tick sees and asks for."""

    def __init__(self, context: dg.SensorEvaluationContext, project: Project) -> None:
        self._context, self._project = context, project
        self.events: list[dg.AssetObservation] = []
        self.requests: list[dg.RunRequest] = []
        self._said: list[str] = []
        self._unchanged = 0

    def in_words(self) -> str:
        """What was seen of each corpus in which something was, and of the others how many there are."""
        if not self._unchanged:
            return "; ".join(self._said) or "the data folder has no corpus"
        rest = counted(self._unchanged, "corpus", "corpora")
        verb = "is" if self._unchanged == 1 else "are"
        return "; ".join([*self._said, f"{rest} {verb} unchanged"])

    def _say(self, corpus: str, what: str) -> None:
        self._said.append(f"{corpus} {what}")
        self._context.log.info(f"{corpus} {what}")

    def look_at(self, corpus: str, last: _Looked) -> _Looked:
        """What is known of a corpus after this look."""
        try:
            return self._acted(corpus, last)
        except SlowError as error:
            self._said.append(f"{corpus} is not read yet: {error}")
            self._context.log.warning(f"{corpus}: {error}; the next tick continues from there")
            return last
        except Exception as error:
            problem = in_words(error)
            self._said.append(f"{corpus} is left out until this is corrected: {problem}")
            self._context.log.warning(self._said[-1])
            if problem != last.problem:
                self.events.append(_refusal(corpus, problem))
            return replace(last, problem=problem)

    def _acted(self, corpus: str, last: _Looked) -> _Looked:
        observed = self._project.observed(corpus, _CORPUS_SECONDS)
        until = self._project.config(corpus).automation.until
        state = digest([observed, until])
        if state == last.seen and state != last.acted:
            last = _Looked(acted=state, count=last.count + 1, tries=1)
            self.events += [
                observation(dg.AssetKey(key.split("/")), corpus, version)
                for key, version in observed.items()
            ]
            if cost := observation_of_cost(self._project, corpus):
                self.events.append(cost)
            self._say(corpus, f"changed and has settled: asked for a run up to {until}")
            self.requests.append(_request(corpus, until, observed[CORPUS_FILES], last))
        elif state != last.acted:
            self._say(corpus, "changed: waiting until it is the same on two ticks")
        elif last.tries:
            last, again = _followed_up(self._context.instance, corpus, last)
            if again:
                self._say(corpus, f"is asked for again (try {last.tries}): its last run died")
                self.requests.append(_request(corpus, until, observed[CORPUS_FILES], last))
            else:
                self._say(corpus, "has a run that was asked for; nothing changed since")
        else:
            self._unchanged += 1
        return replace(last, seen=state, problem="")


def _refusal(corpus: str, problem: str) -> dg.AssetObservation:
    """What is wrong with a corpus, on the page of its first asset."""
    metadata = {"refused": dg.MetadataValue.text(visible(problem))}
    return dg.AssetObservation(dg.AssetKey("raw_documents"), partition=corpus, metadata=metadata)


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
