"""The graph in Dagster: partitions appear by themselves, and its marks agree with the manifests."""

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.observe import observe

from ft_assets.definitions import build_definitions
from ft_assets.defs.assets.settings import settings
from ft_assets.defs.corpus_sensor import look
from ft_assets.defs.observations import input_keys
from ft_assets.defs.partitions import corpus_partitions
from ft_assets.defs.tags import REFRESH_JOB
from ft_assets.engine.graph import GRAPH
from ft_assets.engine.project import Project
from ft_assets_tests.conftest import PROSE, Corpus

DATA_HALF = ["raw_documents", "chunks", "qa_pairs", "formatted_dataset"]


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as made:
        yield made


def _tick(instance: dg.DagsterInstance, project: Project, cursor: str | None) -> dg.SensorResult:
    context = dg.build_sensor_context(instance=instance, cursor=cursor)
    result = look(context, project)
    for request in result.dynamic_partitions_requests or []:
        instance.add_dynamic_partitions("corpus", list(request.partition_keys))
    return result


def _run(instance: dg.DagsterInstance, project: Project, assets: list[str]) -> None:
    instance.add_dynamic_partitions("corpus", ["ferry"])
    job = build_definitions(project=project).resolve_job_def(REFRESH_JOB)
    keys = [dg.AssetKey(name) for name in assets]
    result = job.execute_in_process(instance=instance, partition_key="ferry", asset_selection=keys)
    assert result.success


def _stale(instance: dg.DagsterInstance, project: Project, assets: list[str]) -> dict[str, str]:
    """Dagster's own status of each asset of the corpus."""
    from dagster._core.definitions.data_version import CachingStaleStatusResolver
    from dagster._core.loader import LoadingContextForTest

    graph = build_definitions(project=project).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    return {name: resolver.get_status(dg.AssetKey(name), "ferry").value.lower() for name in assets}


def test_the_graph_is_what_the_design_says() -> None:
    graph = build_definitions().resolve_asset_graph()
    for asset in GRAPH:
        node = graph.get(dg.AssetKey(asset))
        assert node.partitions_def == corpus_partitions
        assert node.parent_keys == set(input_keys(asset))
    assert dg.AssetKey("corpus_files") in graph.get(dg.AssetKey("raw_documents")).parent_keys


def test_a_folder_becomes_a_partition_once_it_has_settled(
    instance: dg.DagsterInstance, corpus: Corpus
) -> None:
    first = _tick(instance, corpus.project, None)
    assert instance.get_dynamic_partitions("corpus") == ["ferry"]
    assert not first.run_requests  # seen once: it may still be being copied
    second = _tick(instance, corpus.project, first.cursor)
    [request] = second.run_requests or []
    assert request.partition_key == "ferry"
    assert [key.to_user_string() for key in request.asset_selection or []] == DATA_HALF
    third = _tick(instance, corpus.project, second.cursor)
    assert not third.run_requests
    assert not third.asset_events
    Corpus(corpus.project, "second").write("a.txt", PROSE)
    _tick(instance, corpus.project, third.cursor)
    assert set(instance.get_dynamic_partitions("corpus")) == {"ferry", "second"}


def test_a_tick_says_what_it_saw_and_why_it_waits(
    instance: dg.DagsterInstance, corpus: Corpus
) -> None:
    def says(cursor: str | None) -> tuple[str, str | None]:
        result = _tick(instance, corpus.project, cursor)
        reason = result.skip_reason
        return (reason.skip_message or "") if reason else "", result.cursor

    said, cursor = says(None)
    assert said == "ferry changed: waiting until it is the same on two ticks"
    said, cursor = says(cursor)
    assert said == ""  # it asked for a run
    said, cursor = says(cursor)
    assert said == "ferry has a run that was asked for; nothing changed since"
    Corpus(corpus.project, "broken").settings("data: [")
    said, cursor = says(cursor)
    assert said.startswith("broken is left out until this is corrected: ")
    empty = Project(corpus.project.data / "ferry", corpus.project.storage.root)
    assert _tick(instance, empty, None).skip_reason is not None


def test_a_change_and_its_undoing_are_both_acted_on(
    instance: dg.DagsterInstance, corpus: Corpus
) -> None:
    cursor: str | None = None
    keys = []
    for text in (PROSE, "Another text.", PROSE):
        corpus.write("ferry.txt", text)
        for _ in range(2):
            result = _tick(instance, corpus.project, cursor)
            cursor = result.cursor
            keys += [request.run_key for request in result.run_requests or []]
    assert len(keys) == len(set(keys)) == 3


def test_broken_settings_of_one_corpus_leave_the_others_alone(
    instance: dg.DagsterInstance, corpus: Corpus
) -> None:
    Corpus(corpus.project, "broken").settings("data: [")
    first = _tick(instance, corpus.project, None)
    [request] = _tick(instance, corpus.project, first.cursor).run_requests or []
    assert request.partition_key == "ferry"


def test_dagster_agrees_after_an_edit_that_nobody_observed(
    instance: dg.DagsterInstance, corpus: Corpus
) -> None:
    _run(instance, corpus.project, DATA_HALF)
    assert set(_stale(instance, corpus.project, DATA_HALF).values()) == {"fresh"}
    corpus.write("ferry.txt", PROSE + " And more.")
    corpus.settings("data: {seed: 18}")
    _run(instance, corpus.project, DATA_HALF)
    assert set(_stale(instance, corpus.project, DATA_HALF).values()) == {"fresh"}


def _shown_cost(instance: dg.DagsterInstance) -> str | None:
    """The latest cost estimate on the page of `qa_pairs`."""
    asked = dg.AssetRecordsFilter(asset_key=dg.AssetKey("qa_pairs"), asset_partitions=["ferry"])
    for record in instance.fetch_observations(asked, limit=1).records:
        assert record.asset_observation
        return str(record.asset_observation.metadata["cost_before"].value)
    return None


def test_the_page_of_the_pairs_shows_their_cost_before_it_is_spent(
    instance: dg.DagsterInstance, corpus: Corpus
) -> None:
    _run(instance, corpus.project, DATA_HALF)
    assert _shown_cost(instance) is None  # off: nothing to say
    corpus.settings("qa: {enabled: true}\nautomation: {until: raw_documents}")
    first = _tick(instance, corpus.project, None)
    second = _tick(instance, corpus.project, first.cursor)
    for event in second.asset_events:
        assert isinstance(event, dg.AssetObservation)
        instance.report_runless_asset_event(event)
    assert _stale(instance, corpus.project, ["qa_pairs"]) == {"qa_pairs": "stale"}
    said = _shown_cost(instance)
    assert said
    assert "pairs of all" in said
    assert "in messages, $0.00" in said
    assert "in batches" in said
    corpus.settings("qa: {enabled: true, model: claude-haiku-4-5}")
    observe(settings, instance=instance, resources={"project": corpus.project})
    dearer = _shown_cost(instance)
    assert dearer
    assert dearer != said
    corpus.write("ferry.txt", PROSE * 40)
    _run(instance, corpus.project, ["raw_documents", "chunks"])
    assert _shown_cost(instance) not in (said, dearer)


def test_the_page_of_a_partition_shows_documents_and_check(
    instance: dg.DagsterInstance, corpus: Corpus
) -> None:
    _run(instance, corpus.project, ["raw_documents"])
    key = dg.AssetKey("raw_documents")
    event = instance.get_latest_materialization_event(key)
    assert event
    assert event.asset_materialization
    table = event.asset_materialization.metadata["documents"]
    assert isinstance(table, dg.TableMetadataValue)
    assert {record.data["path"] for record in table.records} == {"ferry.txt", "crates.json"}
    manifest = corpus.project.storage.current("ferry", "raw_documents")
    assert manifest
    assert json.loads(manifest.to_json())["run_id"] == event.run_id
    tags = event.asset_materialization.tags or {}
    assert tags["dagster/data_version"] == manifest.version
