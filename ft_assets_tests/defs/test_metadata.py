"""What a partition page says about how an artifact was built, and what was left out."""

import json
from pathlib import Path

import dagster as dg

from ft_assets.definitions import build_definitions
from ft_assets.defs.metadata import samples, table
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


HOSTILE = "```\n<script>alert(1)</script>\n[click](http://evil.example)\n`````\x1b[31m\n"


def test_a_sample_of_the_rows_is_on_the_page_and_stays_in_its_fence(
    corpus: Corpus, pico_model: Path
) -> None:
    corpus.settings(f"model: {{base: '{pico_model}'}}\ndata: {{eval_fraction: 0}}")
    corpus.write("ferry.txt", HOSTILE + "The boat of noon leaves from the quay. " * 60)
    turns = [{"role": role, "content": "word " * 90} for role in ("user", "assistant") * 3]
    corpus.write("crates.json", json.dumps({"messages": turns}))
    found: dict[str, str] = {}
    for asset in ("raw_documents", "chunks", "qa_pairs", "formatted_dataset"):
        manifest = corpus.project.make("ferry", asset).manifest
        for name, value in samples(corpus.project.storage, manifest).items():
            assert isinstance(value, dg.MarkdownMetadataValue)
            found[name] = value.md_str or ""
    assert found.keys() == {"sample_documents", "sample_records", "sample_chunks", "sample_train"}
    for text in found.values():
        fence = text.split("text\n")[0]
        assert set(fence) == {"`"}
        assert text.endswith(f"\n{fence}")
        assert fence not in text[len(fence) : -len(fence)]
        assert "\x1b" not in text
        assert len(text) < 1_000  # Dagster hides longer ones behind a link
        assert max(map(len, text.splitlines())) <= 100
    assert "ferry.txt, page 1" in found["sample_documents"]
    assert "[click](http://evil.example)" in found["sample_chunks"]
    assert "[trained]" in found["sample_train"]


def test_a_value_that_is_missing_is_an_empty_cell() -> None:
    [row] = table([{"path": "a.md", "language": None}], ("path", "language", "problem")).records
    assert row.data == {"path": "a.md", "language": "", "problem": ""}
