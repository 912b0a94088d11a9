"""Every file, whatever its state, becomes text, records, or a reason."""

import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets.engine.glance import glance_at
from ft_assets.errors import StageError
from ft_assets.records import Document, InstructionRecord, RejectedDocument
from ft_assets.tables import read_table
from ft_assets_tests.conftest import PROSE, Corpus, sources, write_docx, write_pdf
from ft_assets_tests.stages.loaders.read_file import read

PAGE = "The captain keeps a goat called Biscuit\nwho sleeps in the wheelhouse"


@pytest.mark.parametrize("engine", ["pypdfium2", "pypdf"])
def test_a_pdf_is_read_page_by_page(tmp_path: Path, engine: str) -> None:
    write_pdf(tmp_path / "a.pdf", [PAGE, "Second page of the handbook"])
    found = read(tmp_path / "a.pdf", pdf=engine)
    assert [page.page for page in found.documents] == [1, 2]
    assert found.documents[0].text.split() == PAGE.split()
    assert found.parsed.engine == engine


@pytest.mark.parametrize("engine", ["lxml", "docx2txt"])
def test_a_docx_keeps_text_and_table(tmp_path: Path, engine: str) -> None:
    write_docx(tmp_path / "a.docx", ["A goat.", "A ferry."], [["day", "fare"]], "The footer")
    [document] = read(tmp_path / "a.docx", docx=engine).documents
    for words in ("A goat.", "A ferry.", "day", "fare"):
        assert words in document.text
    if engine == "lxml":
        assert "day | fare" in document.text
        assert document.text.endswith("The footer")


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "Grüße aus Köln, 東京"),
        ("utf-8-sig", "with a mark"),
        ("utf-16", "Grüße aus Köln"),
        ("cp1252", "Der Fährmann aß früher täglich Möhren und schöne Äpfel. " * 5),
    ],
)
def test_text_in_any_encoding_is_read_and_the_encoding_named(
    tmp_path: Path, encoding: str, text: str
) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    found = read(tmp_path / "a.txt")
    assert [document.text for document in found.documents] == [text]
    assert found.parsed.encoding


def test_what_cannot_be_read_has_a_reason(tmp_path: Path) -> None:
    write_pdf(tmp_path / "secret.pdf", [PAGE], password="open sesame")
    write_pdf(tmp_path / "blank.pdf", ["", "", ""])
    write_pdf(tmp_path / "whole.pdf", [PAGE] * 5)
    whole = (tmp_path / "whole.pdf").read_bytes()
    (tmp_path / "half.pdf").write_bytes(whole[:200])
    (tmp_path / "renamed.txt").write_bytes(whole)
    (tmp_path / "noise.txt").write_bytes(bytes(range(256)) * 50)
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "blank.md").write_text(" \n\n ")
    (tmp_path / "broken.docx").write_bytes(b"PK\x03\x04 not a zip")
    (tmp_path / "empty.json").write_text("[]")
    (tmp_path / "odd.csv").write_text("a,b")
    assert "encrypted" in read(tmp_path / "secret.pdf").reason
    assert read(tmp_path / "blank.pdf").reason == "it has no text on its 3 pages"
    assert read(tmp_path / "half.pdf").reason
    assert "a PDF under another name" in read(tmp_path / "renamed.txt").reason
    assert "binary" in read(tmp_path / "noise.txt").reason
    assert "0 bytes" in read(tmp_path / "empty.txt").reason
    assert "no text" in read(tmp_path / "blank.md").reason
    assert "damaged" in read(tmp_path / "broken.docx").reason
    assert "no records" in read(tmp_path / "empty.json").reason
    assert "its columns are a, b: a table of records has" in read(tmp_path / "odd.csv").reason
    (tmp_path / "odd.xlsx").write_text("a,b")
    assert ".xlsx is not read; known are .pdf" in read(tmp_path / "odd.xlsx").reason


def test_a_docx_with_a_doctype_is_refused(tmp_path: Path) -> None:
    body = b'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a "lol">]><d>&a;</d>'
    with zipfile.ZipFile(tmp_path / "bomb.docx", "w") as archive:
        archive.writestr("word/document.xml", body)
    assert "DOCTYPE" in read(tmp_path / "bomb.docx").reason


RECORDS = [
    {"instruction": "Add.", "input": "2 and 3", "output": "5"},
    {"prompt": "Say hi.", "completion": "Hi."},
    {
        "prompt": [{"role": "user", "content": "Say ho."}],
        "completion": [{"role": "assistant", "content": "Ho."}],
    },
    {"question": "Who?", "answer": "Biscuit."},
    {"messages": [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}]},
    {"conversations": [{"from": "human", "value": "C"}, {"from": "gpt", "value": "D"}]},
]


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_every_spelling_of_a_record_is_read(tmp_path: Path, suffix: str) -> None:
    lines = [json.dumps(record) for record in RECORDS]
    text = f"[{','.join(lines)}]" if suffix == "json" else "\n".join(lines)
    (tmp_path / f"a.{suffix}").write_text(text)
    found = read(tmp_path / f"a.{suffix}")
    assert not found.parsed.rejected
    answers = [record.messages[-1]["content"] for record in found.records]
    assert answers == ["5", "Hi.", "Ho.", "Biscuit.", "B", "D"]
    assert found.records[0].input == "2 and 3"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ('{"question": "Who?"}', "its keys are question"),
        ('{"question": "Who?", "answer": true}', "'answer' must be a string"),
        ('{"question": "Who?", "answer": " "}', "empty"),
        ('{"messages": [{"role": "user", "content": "A"}]}', "assistant last"),
        ('{"messages": [{"role": "robot", "content": "A"}]}', "unknown role 'robot'"),
        ("17", "a number"),
    ],
)
def test_a_bad_record_is_named_by_line_and_spoils_no_other(
    tmp_path: Path, bad: str, says: str
) -> None:
    good = [json.dumps({"question": f"Q{n}", "answer": f"A{n}"}) for n in range(50)]
    lines = [*good[:30], bad, *good[30:]]
    (tmp_path / "a.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
    found = read(tmp_path / "a.json")
    assert len(found.records) == 50
    [rejected] = found.parsed.rejected
    assert rejected.startswith("line 32, record 31: ")
    assert says in rejected


def test_a_json_file_cut_short_keeps_what_stands_before_the_cut(tmp_path: Path) -> None:
    text = json.dumps([{"question": f"Q{n}", "answer": f"A{n}"} for n in range(9)], indent=0)
    (tmp_path / "a.json").write_text(text[: len(text) // 2])
    found = read(tmp_path / "a.json")
    assert len(found.records) == 4
    assert "not JSON" in found.parsed.rejected[0]


@given(
    st.binary(max_size=400),
    st.sampled_from([".pdf", ".docx", ".txt", ".md", ".json", ".jsonl", ".csv", ".parquet"]),
)
def test_no_bytes_make_parsing_raise(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(content)
    found = read(path)
    assert found.documents or found.records or found.parsed.rejected


def test_the_asset_names_rejects_and_goes_on(corpus: Corpus) -> None:
    corpus.write("broken.pdf", b"%PDF-1.7 no more")
    corpus.write("copy of ferry.txt", PROSE)
    made = corpus.project.make("ferry", "raw_documents")
    folder = corpus.project.storage.folder("ferry", "raw_documents", made.manifest.version)
    documents = list(read_table(folder / "documents.parquet", Document))
    assert [document.text for document in documents] == [PROSE]
    assert len(list(read_table(folder / "records.parquet", InstructionRecord))) == 24
    [rejected] = read_table(folder / "rejected.parquet", RejectedDocument)
    lines = {line.path: line for line in sources(corpus.project, made.manifest)}
    assert lines["broken.pdf"].document_id == rejected.document_id
    assert lines["ferry.txt"].document_id == lines["copy of ferry.txt"].document_id
    assert not made.manifest.checks["every_file_read"]["passed"]


def test_nothing_usable_fails_and_says_why(corpus: Corpus) -> None:
    for path in corpus.folder.iterdir():
        path.unlink()
    corpus.write("a.pdf", b"%PDF-1.7 no more")
    with pytest.raises(StageError, match=r"(?s)no file that could be read.*a\.pdf: "):
        corpus.project.make("ferry", "raw_documents")


def test_a_link_out_of_the_corpus_is_not_followed(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("not for you")
    (corpus.folder / "link.txt").symlink_to(tmp_path / "outside.txt")
    made = corpus.project.make("ferry", "raw_documents")
    found = sources(corpus.project, made.manifest)
    [line] = [line for line in found if line.path == "link.txt"]
    assert "link out of the corpus" in line.rejected[0]


def test_hidden_temporary_and_own_files_are_no_documents(corpus: Corpus) -> None:
    for name in (".hidden.txt", "~$lock.docx", "half.pdf.part", "questions.jsonl", "a.jinja"):
        corpus.write(name, "x")
    assert [file.path for file in corpus.project.files("ferry")] == ["crates.json", "ferry.txt"]


def test_the_asset_counts_records_left_out_and_keys_not_used(corpus: Corpus) -> None:
    lines = [
        {"question": f"Q{n}?", "answer": "A.", "rank": n, "label": n % 2 == 0} for n in range(6)
    ]
    corpus.write("kto.jsonl", "\n".join(map(json.dumps, lines)))
    made = corpus.project.make("ferry", "raw_documents").manifest
    [line] = [line for line in sources(corpus.project, made) if line.path == "kto.jsonl"]
    assert (line.records, line.records_rejected) == (3, 3)
    assert line.unused_keys == [{"key": "rank", "records": 3}]
    assert (made.counts["records_rejected"], made.counts["unused_keys"]) == (3, 1)
    check = made.checks["every_key_used"]
    assert not check["passed"]
    assert not check["blocking"]
    assert "kto.jsonl: 'rank' (3 records)" in check["message"]
    assert glance_at(corpus.project, "ferry").unused_keys["kto.jsonl"]["rank"] == 3


def test_more_rejected_records_than_reasons_are_all_counted(corpus: Corpus) -> None:
    corpus.write("many.jsonl", "17\n" * 3_000)
    made = corpus.project.make("ferry", "raw_documents").manifest
    assert made.counts["records_rejected"] == 3_000
