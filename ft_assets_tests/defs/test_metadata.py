"""What a partition page says about how an artifact was built, and what was left out."""

import dagster as dg

from ft_assets.definitions import build_definitions
from ft_assets.defs.tags import REFRESH_JOB
from ft_assets_tests.conftest import Corpus


def test_a_partition_page_says_one_thing_of_how_an_asset_came_about(corpus: Corpus) -> None:
    corpus.write("broken.pdf", b"%PDF-1.4 nothing")
    outcomes, left = [], []
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("corpus", ["ferry"])
        job = build_definitions(project=corpus.project).resolve_job_def(REFRESH_JOB)
        for _ in range(2):
            assert job.execute_in_process(
                instance=instance,
                partition_key="ferry",
                asset_selection=[dg.AssetKey("raw_documents")],
            ).success
            event = instance.get_latest_materialization_event(dg.AssetKey("raw_documents"))
            assert event
            assert event.asset_materialization
            metadata = event.asset_materialization.metadata
            assert not {"reused", "reason"} & metadata.keys()
            outcomes.append(str(metadata["outcome"].value))
            table = metadata["left_out"]
            assert isinstance(table, dg.TableMetadataValue)
            left += [record.data["path"] for record in table.records]
    assert outcomes[0] == "built: never built before"
    assert outcomes[1].startswith("reused: unchanged since it was built at ")
    assert left == ["broken.pdf", "broken.pdf"]
