"""A refresh that waits for another run says for which, in the terminal and in its own log."""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import dagster as dg
import pytest

from ft_assets.cli.refresh import refresh_corpus
from ft_assets.defs.instance import dagster_home
from ft_assets.defs.internals import free_pool_slots, started_at
from ft_assets.defs.runs import this_process
from ft_assets.defs.tags import (
    PARTITION_TAG,
    PROCESS_TAG,
    SENSOR_TAG,
    TERMINAL,
    USER_TAG,
    WORKER_POOL,
)
from ft_assets.defs.waits import in_words
from ft_assets.engine.project import Project
from ft_assets_tests.conftest import Corpus
from ft_assets_tests.defs.fake_training import StandIn


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    dagster_home()
    with dg.DagsterInstance.get() as made:
        yield made


def a_run(instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    named = {"user": USER_TAG, "sensor": SENSOR_TAG, "corpus": PARTITION_TAG}
    own = {PROCESS_TAG: this_process(), **{named[key]: value for key, value in tags.items()}}
    run = dg.DagsterRun("refresh", tags=own, status=dg.DagsterRunStatus.STARTED)
    return instance.add_run(run)


def test_a_run_in_words(instance: dg.DagsterInstance) -> None:
    run = a_run(instance, user=TERMINAL)
    since = started_at(instance, run.run_id).astimezone()
    assert datetime.now(since.tzinfo) >= since
    assert in_words(instance, run.run_id) == f"run {run.run_id[:8]} (terminal, since {since:%H:%M})"
    assert "(corpus_sensor, since" in in_words(
        instance, a_run(instance, sensor="corpus_sensor").run_id
    )
    assert "(web UI, since" in in_words(instance, a_run(instance).run_id)
    assert in_words(instance, "0123456789") == "run 01234567"
    assert in_words(instance, "") == "run (none)"


def test_who_waits_for_the_place_of_another_training_says_so(
    instance: dg.DagsterInstance, corpus: Corpus, pico_model: Path
) -> None:
    other = a_run(instance, user=TERMINAL, corpus="quay")
    pools = instance.event_log_storage
    pools.initialize_concurrency_limit_to_default(WORKER_POOL)
    assert pools.claim_concurrency_slot(WORKER_POOL, other.run_id, "adapter").is_claimed
    notices: list[tuple[str, str]] = []

    def on_notice(asset: str, line: str) -> None:
        notices.append((asset, line))
        free_pool_slots(instance, other.run_id)

    project = Project(corpus.project.data, corpus.project.storage.root, on_notice=on_notice)
    corpus.settings(f"model: {{base: '{pico_model}'}}")
    found = refresh_corpus(project, "ferry", "adapter", lambda *_: None, compute=StandIn())
    assert found.exit_code == 0, found.failures
    [(asset, line)] = notices
    assert asset == "adapter"
    assert re.fullmatch(
        rf"waiting for run {other.run_id[:8]} \(terminal, since [\d:-]+\), which works on quay; "
        "one training, evaluation, merge or export runs at a time",
        line,
    )
    [run, _] = instance.get_runs()
    logged = [entry.message for entry in instance.all_logs(run.run_id)]
    assert line in logged
