"""Refreshing through Dagster: one run per corpus, several at once, and only the requested assets."""

import json
import os
import shutil
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import HealthCheck, given, settings

from ft_assets.cli.refresh import refresh_corpus
from ft_assets.definitions import build_definitions
from ft_assets.defs.instance import dagster_home
from ft_assets.defs.internals import stale_status
from ft_assets.defs.tags import REFRESH_JOB, REUSE_TAG
from ft_assets_tests.conftest import PROSE, Corpus, RunCLI
from ft_assets_tests.engine.test_incremental import (
    DATA_HALF,
    STEPS,
    Step,
    new_corpus,
    same_as_clean,
    snapshot,
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    return dagster_home()


def _refresh(corpus: Corpus) -> list[str]:
    found = refresh_corpus(
        corpus.project, corpus.name, "formatted_dataset", lambda name, making: None
    )
    assert not found.failures
    return found.making


def _marks(corpus: Corpus) -> set[str]:
    with dg.DagsterInstance.get() as instance:
        definitions = build_definitions(project=corpus.project)
        return set(stale_status(instance, definitions, DATA_HALF, corpus.name).values())


@pytest.mark.slow
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_any_sequence_through_dagster_ends_as_a_clean_build(
    steps: list[Step], home: Path, pico_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("through-dagster")
    os.environ["DAGSTER_HOME"] = str(root / "dagster")
    try:
        corpus = new_corpus(root, pico_model)
        _refresh(corpus)
        for step in steps:
            step(corpus)
            _refresh(corpus)
            assert _marks(corpus) == {"FRESH"}
        same_as_clean(corpus, root)
        before = snapshot(corpus.project.storage.root)
        assert _refresh(corpus) == []
        assert snapshot(corpus.project.storage.root) == before
    finally:
        shutil.rmtree(root)


def test_under_a_new_home_dagster_is_told_and_nothing_is_made(
    corpus: Corpus, pico_model: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.settings(f"model: {{base: '{pico_model}'}}")
    assert _refresh(corpus) == DATA_HALF
    with dg.DagsterInstance.get() as instance:
        [run] = instance.get_runs()
    assert run.tags["user"] == "terminal"
    assert all(run.tags.values()), "a tag is empty"
    before = snapshot(corpus.project.storage.root)
    monkeypatch.setenv("DAGSTER_HOME", str(home.parent / "new"))
    dagster_home()
    assert _marks(corpus) == {"MISSING"}
    assert _refresh(corpus) == []
    assert _marks(corpus) == {"FRESH"}
    assert snapshot(corpus.project.storage.root) == before


def test_a_run_that_may_only_reuse_makes_nothing(
    corpus: Corpus, pico_model: Path, home: Path
) -> None:
    corpus.settings(f"model: {{base: '{pico_model}'}}")
    _refresh(corpus)
    before = snapshot(corpus.project.storage.root)
    corpus.write("ferry.txt", "It changed between the plan and the run.")
    job = build_definitions(project=corpus.project).resolve_job_def(REFRESH_JOB)
    with dg.DagsterInstance.get() as instance:
        done = job.execute_in_process(
            instance=instance,
            partition_key="ferry",
            asset_selection=[dg.AssetKey("raw_documents")],
            tags={REUSE_TAG: "raw_documents"},
            raise_on_error=False,
        )
    assert not done.success
    assert snapshot(corpus.project.storage.root) == before


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_a_failed_corpus_does_not_stop_the_others(
    corpus: Corpus, pico_model: Path, cli: RunCLI, jobs: str
) -> None:
    for name in ("ferry", "second", "third"):
        Corpus(corpus.project, name).write("ferry.txt", PROSE)
        Corpus(corpus.project, name).settings(f"model: {{base: '{pico_model}'}}")
    Corpus(corpus.project, "second").write("ferry.txt", b"%PDF-1.7 nothing to read")
    Corpus(corpus.project, "broken").settings("data: [")
    done = cli("refresh", "--until", "formatted_dataset", "--jobs", jobs, "--json")
    said = json.loads(done.stdout)
    assert done.returncode == 3, done.stderr
    made = {tuple(name) for name in said["materialized"]}
    assert made == {(name, asset) for name in ("ferry", "third") for asset in DATA_HALF}
    assert said["failed"] == [["second", "raw_documents"]]
    assert "broken" in done.stderr
    assert "Traceback" not in done.stderr
    again = json.loads(
        cli("refresh", "ferry", "third", "-j", jobs, "--json", "--until", "chunks").stdout
    )
    assert again["materialized"] == []
    assert len(again["reused"]) == 4
