"""What a run says while it waits for another one: in its own log, and to whoever started it here."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import dagster as dg

from ft_assets.defs.internals import started_at, tell_of_pool_waits
from ft_assets.defs.tags import PARTITION_TAG, SENSOR_TAG, TERMINAL, USER_TAG

_Listener = Callable[[str, str], None]
_listeners: list[_Listener] = []


@contextmanager
def pool_waits_told_to(listener: _Listener) -> Iterator[None]:
    """Has `listener` called with an asset and a line when a step of this process waits for a place."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def in_words(instance: dg.DagsterInstance, run_id: str) -> str:
    """A run, who started it, and when: `run 1f0c2a9e (terminal, since 14:02)`."""
    run = instance.get_run_by_id(run_id) if run_id else None
    if run is None:
        return f"run {run_id[:8] or '(none)'}"
    since = started_at(instance, run_id).astimezone()
    same_day = since.date() == datetime.now(since.tzinfo).date()
    when = since.strftime("%H:%M" if same_day else "%Y-%m-%d %H:%M")
    return f"run {run_id[:8]} ({_started_by(run)}, since {when})"


def _started_by(run: dg.DagsterRun) -> str:
    if SENSOR_TAG in run.tags:
        return run.tags[SENSOR_TAG]
    return TERMINAL if run.tags.get(USER_TAG) == TERMINAL else "web UI"


def _tell(instance: dg.DagsterInstance, run_id: str, asset: str, others: list[str]) -> None:
    said = " and ".join(_working(instance, other) for other in others) or "a place in the pool"
    line = f"waiting for {said}; one training, evaluation, merge or export runs at a time"
    instance.report_engine_event(line, instance.get_run_by_id(run_id), step_key=asset)
    for listener in _listeners:
        listener(asset, line)


def _working(instance: dg.DagsterInstance, run_id: str) -> str:
    run = instance.get_run_by_id(run_id)
    corpus = run.tags.get(PARTITION_TAG) if run else None
    return in_words(instance, run_id) + (f", which works on {corpus}" if corpus else "")


tell_of_pool_waits(_tell)
