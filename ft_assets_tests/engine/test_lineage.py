"""Lineage: from a model to its documents, from a document to its models, and after a removal."""

import json
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest

from ft_assets.engine.graph import GRAPH, upstream
from ft_assets.engine.impact import impact
from ft_assets.engine.lineage import documents_behind
from ft_assets.errors import UserError
from ft_assets.manifest import SOURCES
from ft_assets.records import Chunk, DroppedRow, Example, SourceDocument
from ft_assets.stages.job import Job, Outcome
from ft_assets.tables import read_table, write_table
from ft_assets_tests.conftest import PROSE, Corpus, RunCLI, qa_records, sources

DATA_HALF = [*upstream("formatted_dataset"), "formatted_dataset"]


def _trained(job: Job) -> Outcome:
    """Replaces a heavy stage: only the documents that it names matter here."""
    (job.output / "model").write_text(json.dumps([job.inputs, job.settings], default=str))
    if job.asset == "adapter":
        rows = read_table(job.inputs["formatted_dataset"] / SOURCES, SourceDocument)
        write_table(job.output / SOURCES, SourceDocument, (row for row in rows if row.train_rows))
    return Outcome()


def build(corpus: Corpus) -> None:
    for asset, node in GRAPH.items():
        corpus.project.make(corpus.name, asset, _trained if node.heavy else None)


@pytest.fixture
def built(corpus: Corpus, pico_model: Path) -> Corpus:
    corpus.settings(f"model: {{base: '{pico_model}'}}")
    corpus.write("goat.md", "# The goat\n\nIt is grey and its name is Biscuit.")
    build(corpus)
    return corpus


def _paths(corpus: Corpus, asset: str) -> set[str]:
    manifest = corpus.project.storage.current(corpus.name, asset)
    assert manifest
    return {row.path for row in documents_behind(corpus.project.storage, manifest)}


def _found(corpus: Corpus, file: str) -> dict[str, list[bool]]:
    found: dict[str, list[bool]] = {}
    for item in impact(corpus.project, file).artifacts:
        found.setdefault(item.asset, []).append(item.current)
    return found


def test_a_model_knows_its_documents(built: Corpus, cli: RunCLI) -> None:
    assert _paths(built, "gguf") <= {"ferry.txt", "crates.json", "goat.md"}
    done = cli("lineage", "ferry", "formatted_dataset", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["corpus"], said["asset"]) == ("ferry", "formatted_dataset")
    lines = {line["path"]: line for line in said["documents"]}
    assert set(lines) == {"ferry.txt", "crates.json", "goat.md"}
    files = {file.path: file.sha256 for file in built.project.files("ferry")}
    assert {path: line["document_id"] for path, line in lines.items()} == files
    assert lines["ferry.txt"]["pages"] == 1
    assert lines["crates.json"]["records"] == 24
    rows = sum(line.get("train_rows", 0) + line.get("eval_rows", 0) for line in lines.values())
    assert rows == 26
    assert cli("lineage", "nowhere").returncode == 1
    assert "gguf of ferry" in cli("lineage", "ferry").stdout


def test_what_was_only_held_out_was_not_learned_from(built: Corpus) -> None:
    dataset = built.project.storage.current("ferry", "formatted_dataset")
    assert dataset
    held_out = {line.path for line in sources(built.project, dataset) if not line.train_rows}
    assert _paths(built, "adapter") == {"ferry.txt", "crates.json", "goat.md"} - held_out


def test_a_document_knows_its_artifacts_current_and_old(built: Corpus, cli: RunCLI) -> None:
    assert _found(built, str(built.folder / "ferry.txt"))["raw_documents"] == [True]
    built.write("ferry.txt", PROSE + " And more.")
    build(built)
    found = _found(built, "ferry/ferry.txt")
    assert sorted(found["raw_documents"]) == [False, True]
    assert sorted(found["formatted_dataset"]) == [False, True]
    done = cli("impact", str(built.folder / "ferry.txt"), "--json")
    said = json.loads(done.stdout)
    assert said["file"] == str(built.folder / "ferry.txt")
    assert {"corpus", "asset", "version", "current"} <= set(said["artifacts"][0])
    assert "old" in cli("impact", "ferry/ferry.txt").stdout


@pytest.mark.parametrize(
    "word", ["", ".", "..", "/", "ferry", "ferry/", "*", "\0", "ferry/ferry.txt:1"]
)
def test_a_word_that_names_no_file_is_told_what_may_be_given(
    built: Corpus, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.chdir(built.project.data)
    for given in (word, str(built.project.data), str(built.folder)):
        with pytest.raises(UserError, match="give a path"):
            impact(built.project, given)


def test_a_removed_document_is_found_by_path_and_by_id(built: Corpus, cli: RunCLI) -> None:
    [goat] = [file for file in built.project.files("ferry") if file.path == "goat.md"]
    (built.folder / "goat.md").unlink()
    by_path = _found(built, "ferry/goat.md")
    assert by_path == _found(built, goat.sha256) == _found(built, goat.sha256[:12])
    assert by_path["formatted_dataset"] == [True]
    assert cli("impact", "ferry/never-there.md").returncode == 1
    with pytest.raises(UserError, match="is not a file, and no artifact"):
        impact(built.project, "0123456789abcdef")


def test_after_a_refresh_no_row_of_a_removed_document_is_left(built: Corpus) -> None:
    raw = built.project.storage.current("ferry", "raw_documents")
    assert raw
    [goat] = [line.text_id for line in sources(built.project, raw) if line.path == "goat.md"]
    (built.folder / "goat.md").unlink()
    states = built.project.status("ferry")
    assert states["raw_documents"].causes == ["goat.md was removed"]
    assert {state.state for state in states.values()} == {"stale"}
    build(built)
    dataset = built.project.storage.current("ferry", "formatted_dataset")
    assert dataset
    folder = built.project.storage.folder("ferry", "formatted_dataset", dataset.version)
    for split in ("train", "eval"):
        assert all(row.text_id != goat for row in read_table(folder / f"{split}.parquet", Example))
    for asset in GRAPH:
        assert "goat.md" not in _paths(built, asset)
    assert not any(item.current for item in impact(built.project, "ferry/goat.md").artifacts)


def test_a_renamed_document_has_its_new_name(built: Corpus) -> None:
    (built.folder / "goat.md").rename(built.folder / "biscuit.md")
    build(built)
    assert "biscuit.md" in _paths(built, "formatted_dataset")
    assert "goat.md" not in _paths(built, "formatted_dataset")
    assert _found(built, "ferry/biscuit.md")["formatted_dataset"] == [True]


def test_a_file_saved_anew_with_the_same_text_is_the_same_document(built: Corpus) -> None:
    before = built.project.storage.current("ferry", "gguf")
    built.write("ferry.txt", PROSE.replace("\n", "\r\n"))
    build(built)
    assert built.project.storage.current("ferry", "gguf") == before
    assert _found(built, "ferry/ferry.txt")["formatted_dataset"] == [True]


def test_one_document_in_two_corpora_is_found_in_both(built: Corpus, pico_model: Path) -> None:
    second = Corpus(built.project, "second")
    second.write("copy.txt", PROSE)
    second.settings(f"model: {{base: '{pico_model}'}}")
    build(second)
    found = impact(built.project, "ferry/ferry.txt").artifacts
    assert {item.corpus for item in found} == {"ferry", "second"}


def test_a_path_inside_a_corpus_is_enough(built: Corpus, pico_model: Path) -> None:
    assert _found(built, "goat.md") == _found(built, "ferry/goat.md")
    second = Corpus(built.project, "second")
    second.write("goat.md", "Another goat, which is white and is called Rusk.")
    second.settings(f"model: {{base: '{pico_model}'}}")
    second.project.make("second", "raw_documents")
    found = impact(built.project, "goat.md").artifacts
    assert {item.corpus for item in found} == {"ferry", "second"}
    assert len({item.document_id for item in found}) == 2
    (second.folder / "goat.md").unlink()
    assert _found(built, "ferry/goat.md")["gguf"] == [True]
    assert {item.corpus for item in impact(built.project, "goat.md").artifacts} >= {"second"}


def test_the_beginning_of_an_id_is_enough(built: Corpus) -> None:
    [goat] = [file.sha256 for file in built.project.files("ferry") if file.path == "goat.md"]
    assert _found(built, goat[:6]) == _found(built, "ferry/goat.md")
    with pytest.raises(UserError, match="6 digits or more of an id"):
        impact(built.project, goat[:5])


def test_the_beginning_of_two_ids_is_refused(built: Corpus) -> None:
    seen: dict[str, str] = {}
    for number in count():
        text = f"This is note {number} of the harbour master."
        begins = sha256(text.encode()).hexdigest()[:6]
        if begins in seen:
            break
        seen[begins] = text
    built.write("one.txt", seen[begins])
    built.write("two.txt", text)
    built.project.make("ferry", "raw_documents")
    with pytest.raises(UserError, match=f"{begins} is the beginning of 2 document ids"):
        impact(built.project, begins)


def test_rows_say_whether_a_document_was_learned_from_or_only_held_out(
    built: Corpus, cli: RunCLI
) -> None:
    built.settings(f"{(built.folder / 'finetune.yaml').read_text()}\ndata: {{eval_fraction: 0.5}}")
    build(built)
    dataset = built.project.storage.current("ferry", "formatted_dataset")
    assert dataset
    for line in sources(built.project, dataset):
        [row] = [
            item
            for item in impact(built.project, f"ferry/{line.path}").artifacts
            if item.asset == "formatted_dataset" and item.current
        ]
        assert (row.train_rows, row.eval_rows) == (line.train_rows, line.eval_rows)
        said = cli("impact", line.path, COLUMNS="200").stdout
        assert ("training row" in said) == bool(line.train_rows)
        assert ("eval row" in said) == bool(line.eval_rows)
    raw, *_ = impact(built.project, "ferry/crates.json").artifacts
    assert (raw.asset, raw.train_rows) == ("raw_documents", None)


def test_a_document_that_was_left_out_says_so(built: Corpus, cli: RunCLI) -> None:
    built.write("broken.pdf", b"%PDF-1.4 nothing")
    build(built)
    [found] = impact(built.project, "broken.pdf").left_out
    assert (found.corpus, found.path) == ("ferry", "broken.pdf")
    said = cli("impact", "broken.pdf", COLUMNS="200").stdout
    assert said.startswith(f"broken.pdf: it was left out of ferry: {found.reasons[0]}")
    told = json.loads(cli("impact", "broken.pdf", "--json").stdout)
    assert (told["artifacts"], told["left_out"][0]["corpus"]) == ([], "ferry")


def test_tables_fit_80_columns(built: Corpus, cli: RunCLI) -> None:
    built.write("a/long/way/to/a/file/that/has/quite/a/name/for/a/document.txt", PROSE[:90])
    build(built)
    for command in (("lineage", "ferry", "formatted_dataset"), ("impact", "ferry/ferry.txt")):
        lines = cli(*command, COLUMNS="80").stdout.splitlines()
        assert max(map(len, lines)) <= 80
        ids = [file.sha256[:12] for file in built.project.files("ferry")]
        assert any(id_ in line for id_ in ids for line in lines)
    said = cli("lineage", "ferry", "raw_documents", COLUMNS="80").stdout
    assert "train" not in said
    first, *_ = cli("impact", "ferry.txt", COLUMNS="80").stdout.splitlines()
    assert first.startswith("ferry.txt, corpus ferry, document ")


def test_a_document_of_which_records_were_left_out_says_how_many(
    built: Corpus, cli: RunCLI
) -> None:
    lines = [json.dumps(record) for record in qa_records(5)]
    built.write("mixed.jsonl", "\n".join([*lines, '{"question": "no answer"}', "[1", "{}"]))
    build(built)
    [found] = impact(built.project, "mixed.jsonl").left_out_in_part
    assert (found.records, found.records_rejected, len(found.reasons)) == (5, 3, 3)
    for said in (
        cli("impact", "mixed.jsonl").stdout,
        cli("lineage", "ferry", "mixed.jsonl").stdout,
    ):
        assert "mixed.jsonl: 3 of its 8 records were left out of ferry" in said
        assert "line 6, record 6" in said
        assert "formatted_dataset" in said
    built.write("broken.pdf", b"%PDF-1.4 nothing")
    build(built)
    assert "it was left out of ferry" in cli("lineage", "ferry", "broken.pdf").stdout
    wrong = cli("lineage", "ferry", "adaptor")
    assert wrong.returncode == 1
    assert "did you mean 'adapter'" in wrong.stderr


def test_an_id_of_a_row_says_where_it_stands(built: Corpus, cli: RunCLI) -> None:
    built.write(
        "again.jsonl",
        json.dumps({"question": "what is in  crate 3?", "answer": "Crate 3 holds 21 pears."}),
    )
    build(built)
    made = {
        asset: built.project.storage.folder("ferry", asset, manifest.version)
        for asset in DATA_HALF
        if (manifest := built.project.storage.current("ferry", asset))
    }
    for side in ("train", "eval"):
        row = next(read_table(made["formatted_dataset"] / f"{side}.parquet", Example))
        for each in (row.example_id, row.origin_id):
            [found] = impact(built.project, each[:10]).standings
            assert (found.outcome, found.rows, found.id) == (side, 1, row.origin_id)
            assert found.path in ("crates.json", "again.jsonl", "ferry.txt")
    [gone] = read_table(made["formatted_dataset"] / "dropped.parquet", DroppedRow)
    said = cli("impact", gone.origin_id[:8]).stdout
    assert "left out of formatted_dataset: it equals another; kept instead: " in said
    assert cli("lineage", "ferry", gone.origin_id[:8]).stdout == said
    told = json.loads(cli("impact", gone.origin_id[:8], "--json").stdout)
    assert (told["artifacts"], told["left_out"]) == ([], [])
    assert told["standings"][0]["reason"] == "it equals another"
    chunk = next(read_table(made["chunks"] / "chunks.parquet", Chunk))
    [found] = impact(built.project, chunk.chunk_id).standings
    assert (found.kind, found.place, found.outcome) == ("chunk", "page 1", "train")
    text = impact(built.project, chunk.text_id[:12])
    assert {item.asset for item in text.artifacts} >= {"raw_documents", "formatted_dataset"}
