"""Gates on what a dataset lost: records, bytes and rows, each with the file and the reason."""

import json
from pathlib import Path

import pytest

from ft_assets.engine.graph import upstream
from ft_assets.errors import StageError
from ft_assets.manifest import Manifest
from ft_assets.records import Example
from ft_assets.tables import read_table
from ft_assets_tests.conftest import PROSE, Corpus, RunCLI, qa_records


@pytest.fixture
def records(corpus: Corpus, pico_model: Path) -> Corpus:
    """A corpus without documents yet."""
    for path in corpus.folder.iterdir():
        path.unlink()
    corpus.settings(f"model: {{base: '{pico_model}'}}")
    return corpus


def make(corpus: Corpus) -> Manifest:
    for asset in [*upstream("formatted_dataset"), "formatted_dataset"]:
        made = corpus.project.make(corpus.name, asset)
    return made.manifest


def lines(good: int, bad: int) -> str:
    found = [json.dumps(record) for record in qa_records(good)]
    return "\n".join([*found[:7], *['{"question": "no answer"}'] * bad, *found[7:]])


def folder_of(corpus: Corpus, manifest: Manifest) -> Path:
    return corpus.project.storage.folder(corpus.name, manifest.asset, manifest.version)


def test_a_third_of_the_records_lost_is_stopped_with_file_and_reason(
    records: Corpus, cli: RunCLI
) -> None:
    records.write("sub/talks.jsonl", lines(70, 30))
    done = cli("refresh", "ferry", "--until", "adapter")
    assert done.returncode == 3
    for said in (done.stdout + done.stderr, cli("status", "ferry").stdout):
        flat = " ".join(said.split())
        assert "30 of 100 records were turned away (30.0%: sub/talks.jsonl (30 of 100: " in flat
        assert "line 8, record 8: its keys are question" in flat
        assert "data.gates.rejected_records allows 10%" in flat
    records.settings(
        f"{(records.folder / 'finetune.yaml').read_text()}\ndata: {{gates: {{rejected_records: 0.3}}}}"
    )
    assert make(records).failed_gates() == []


def test_nearly_all_records_lost_is_stopped(records: Corpus) -> None:
    records.write("one.jsonl", lines(1, 4_999))
    make(records)
    with pytest.raises(StageError, match=r"4,999 of 5,000 records were turned away .*one\.jsonl"):
        records.project.make("ferry", "adapter")


def test_a_large_file_lost_among_many_small_ones_is_stopped(records: Corpus) -> None:
    for number in range(20):
        records.write(f"{number}.txt", f"{PROSE} {number}")
    records.write("book.pdf", b"%PDF-1.7 " + b"no more " * 3_000)
    manifest = make(records)
    assert manifest.checks["documents_are_read"]["passed"]
    with pytest.raises(StageError) as error:
        records.project.make("ferry", "adapter")
    assert "check bytes_are_read failed: 24,009 bytes" not in str(error.value)
    assert "24,009 of " in str(error.value)
    assert "bytes are in documents that could not be read" in str(error.value)
    assert ": book.pdf (24,009 bytes: " in str(error.value)


def test_the_verdict_on_bytes_is_that_of_a_clean_build(records: Corpus, tmp_path: Path) -> None:
    from ft_assets.engine.project import Project

    records.write("a.txt", PROSE)
    records.write("book.pdf", b"%PDF-1.7 no more")
    make(records)
    records.write("a.txt", PROSE.replace("\n", "\r\n"))  # other bytes, the same text
    clean = Corpus(Project(records.project.data, tmp_path / "clean"), "ferry")
    assert make(records).checks == make(clean).checks


def test_rows_that_the_template_refuses_are_stopped(records: Corpus) -> None:
    turns = [
        {"role": role, "content": f"Turn {turn}."}
        for turn in range(2)
        for role in ("user", "assistant")
    ]
    talks = [
        {"messages": [*turns[:-1], {"role": "assistant", "content": f"{n}"}]} for n in range(9)
    ]
    records.write("talks.jsonl", "\n".join(map(json.dumps, talks)))
    records.write("crates.json", json.dumps(qa_records(40)))
    records.settings(
        f"{(records.folder / 'finetune.yaml').read_text()}\ndata: {{template: alpaca}}"
    )
    manifest = make(records)
    assert not manifest.checks["rows_are_rendered"]["passed"]
    with pytest.raises(StageError) as error:
        records.project.make("ferry", "adapter")
    assert (
        "9 of 49 rows are refused by the template (18.4%: talks.jsonl (9 rows, the first is record 1: "
        "the template has room for one question, the record has 2)"
    ) in str(error.value)


def test_a_renamed_file_has_its_new_name_in_verdicts_and_makes_no_new_dataset(
    records: Corpus,
) -> None:
    path = records.write("talks.jsonl", lines(70, 30))
    before = make(records)
    path.rename(records.folder / "speeches.jsonl")
    assert make(records).version == before.version
    with pytest.raises(StageError, match=r"speeches\.jsonl \(30 of 100"):
        records.project.make("ferry", "adapter")


ANSWERS = [
    "port\theight\nNess\t3.1\nWick\t2.0",
    "name = 'ab        '\nx      = 1",
    "    y = x + 1\n    return y",
    "A         12",
    "First line,  \nsecond line.\n\n\n\nNew verse.",
    "Cela coûte 5\u00a0€ et 1\u00a0000 pages.",
]


def test_white_space_of_answers_is_in_the_rows_as_it_was_written(records: Corpus) -> None:
    written = [
        {"instruction": f"Write  {n}.", "output": answer} for n, answer in enumerate(ANSWERS)
    ]
    records.write("answers.json", json.dumps(written))
    manifest = make(records)
    folder = folder_of(records, manifest)
    rendered = [
        "".join(each["text"] for each in row.segments)
        for side in ("train", "eval")
        for row in read_table(folder / f"{side}.parquet", Example)
    ]
    for number, answer in enumerate(ANSWERS):
        assert any(f"Write  {number}." in row and answer in row for row in rendered)
    assert manifest.counts["normalized_rows"] == 0


def test_normalised_rows_are_counted_and_chunks_stay_as_they_are(
    records: Corpus, cli: RunCLI
) -> None:
    from ft_assets.records import Chunk, Document

    text = (records.folder / "finetune.yaml").read_text()
    records.write("answers.json", json.dumps([{"question": "Two  spaces?", "answer": "A  B"}] * 2))
    records.write("notes.txt", "The  tide   is low.\n\n" + PROSE)
    for mode, words in (("prose", "1 row with"), ("all", "2 rows with")):
        records.settings(f"{text}\naugment: {{normalize_whitespace: {mode}}}")
        manifest = make(records)
        assert manifest.counts["normalized_rows"] == int(words[0])
    assert (
        f"{words} white space normalised"
        in cli("refresh", "ferry", "--until", "formatted_dataset", "--force").stdout
    )
    rows = list(read_table(folder_of(records, manifest) / "train.parquet", Example))
    assert any("The tide is low." in row.segments[-1]["text"] for row in rows)
    made = {
        asset: records.project.storage.folder("ferry", asset, current.version)
        for asset in ("raw_documents", "chunks")
        if (current := records.project.storage.current("ferry", asset))
    }
    [document] = read_table(made["raw_documents"] / "documents.parquet", Document)
    for chunk in read_table(made["chunks"] / "chunks.parquet", Chunk):
        assert document.text[chunk.start : chunk.end] == chunk.text


def test_rows_that_are_cut_say_what_to_do(records: Corpus) -> None:
    records.settings(
        f"{(records.folder / 'finetune.yaml').read_text()}\ntraining: {{max_length: 128}}"
    )
    long = {"question": "Who is aboard?", "answer": "Two goats, and more. " * 80}
    records.write("talks.jsonl", lines(20, 0) + "\n" + json.dumps(long))
    make(records)
    said = r"dropped by training\.max_length, 1 row cut: raise it, or split what is longer \("
    with pytest.raises(StageError, match=said):
        records.project.make("ferry", "adapter")
