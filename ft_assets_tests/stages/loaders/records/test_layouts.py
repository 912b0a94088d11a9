"""What a file is, its content says; one bad record costs one record."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets.stages.loaders.records import json_stream, tables
from ft_assets_tests.stages.loaders.read_file import read
from ft_assets_tests.stages.loaders.records.loading import Loaded, load_bytes

GOOD = [{"instruction": f"Where is boat {n}?", "output": f"At quay {n}."} for n in range(20)]
LINES = "\n".join(map(json.dumps, GOOD))
TURNS = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Biscuit."}]


def answers(found: Loaded) -> list[str]:
    return [record.messages[-1]["content"] for record in found.records]


def table(separator: str, rows: list[list[str]], head: str = "question context answer") -> str:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator)
    writer.writerows([head.split(), *rows])
    return file.getvalue()


LAYOUTS = {
    "lines": LINES,
    "lines with a BOM inside": LINES.replace("\n", "\n\ufeff", 3),
    "lines with commas": LINES.replace("\n", ",\n"),
    "lines and blank lines": LINES.replace("\n", "\r\n\r\n"),
    "two lists": f"{json.dumps(GOOD[:9])}\n{json.dumps(GOOD[9:])}",
    "list": json.dumps(GOOD),
    "pretty list": json.dumps(GOOD, indent=2),
    "list of lines": "[\n" + LINES.replace("\n", ",\n") + "\n]",
    "one after the other": LINES.replace("\n", ""),
    "pretty, one after the other": "\n".join(json.dumps(each, indent=1) for each in GOOD),
    "wrapped": json.dumps({"data": GOOD}),
    "wrapped with more": json.dumps({"version": "1.0", "Rows": GOOD}, indent=2),
    "wrapped by any key": json.dumps({"boats": GOOD}),
    "rows of a hub": json.dumps(
        {"rows": [{"row_idx": n, "row": each} for n, each in enumerate(GOOD)]}
    ),
}
NAMES = ["a.json", "a.jsonl", "a.ndjson", "a.json.gz", "a.csv"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_under_every_name(layout: str, name: str) -> None:
    content = LAYOUTS[layout].encode()
    for packed in (content, gzip.compress(content)):
        found = load_bytes(packed, name)
        assert answers(found) == [each["output"] for each in GOOD]
        assert not found.rejected
        assert [record.number for record in found.records] == list(range(1, 21))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("wrong", ['"At quay 7.",', "None", "'At quay 7.'", '"a" "b"', "[1, ]"])
def test_one_bad_record_costs_one_record(layout: str, wrong: str) -> None:
    found = load_bytes(LAYOUTS[layout].replace('"At quay 7."', wrong, 1).encode())
    assert answers(found) == [each["output"] for each in GOOD if each["output"] != "At quay 7."]
    [reason] = found.rejected
    assert ", record 8: not JSON" in reason
    assert found.lost == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_open_quote_costs_one_record_or_the_rest_is_counted(layout: str) -> None:
    found = load_bytes(LAYOUTS[layout].replace('"At quay 7."', '"At quay 7.', 1).encode())
    if "pretty" in layout or "lines" in layout or "more" in layout:
        assert len(found.records) == 19
        assert found.lost == 1
    else:  # nothing says for certain where the next record begins
        assert "the rest of the file was not read, about" in found.rejected[-1]
        assert len(found.records) + found.lost == pytest.approx(20, abs=3)


def test_a_conversation_without_a_key_is_read() -> None:
    line = json.dumps(TURNS)
    for text in (
        line,
        f"{line}\n{line}\n{line}",
        f"[{line},{line}]",
        json.dumps({"conversations": [TURNS] * 2}),
    ):
        found = load_bytes(text.encode())
        assert set(answers(found)) == {"Biscuit."}
        assert not found.rejected
    wrapped = load_bytes(json.dumps({"conversations": [{"messages": TURNS}] * 3}).encode())
    assert len(wrapped.records) == 3


def test_a_list_that_is_not_read_is_counted() -> None:
    found = load_bytes(json.dumps({"train": GOOD, "test": GOOD[:5]}).encode(), "a.json")
    assert len(found.records) == 20
    assert found.lost == 5
    assert "the list 'test' was not read" in found.rejected[0]


@pytest.mark.parametrize("piece", [1, 7, 64])
def test_the_size_of_what_is_read_at_a_time_changes_nothing(
    piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts = ("list", "pretty list", "one after the other", "wrapped with more")
    texts = [LAYOUTS[name].replace('"At quay 7."', '"At quay 7.",').encode() for name in layouts]
    whole = [load_bytes(text, "a.json") for text in texts]
    monkeypatch.setattr(json_stream, "_PIECE", piece)
    assert [load_bytes(text, "a.json") for text in texts] == whole
    assert [found.lost for found in whole] == [1, 1, 1, 1]


def test_a_long_wrapped_list_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "MAX_RECORD", 300)
    monkeypatch.setattr(json_stream, "_PIECE", 64)
    text = json.dumps({"version": 1, "data": GOOD, "more": {"x": [1]}})
    assert len(load_bytes(text.encode(), "a.json").records) == 20


def test_gzip_that_ends_early_keeps_what_it_has_and_a_bomb_is_stopped() -> None:
    packed = gzip.compress(
        (
            "\n".join(
                json.dumps({"question": f"{n} {hash(str(n))}", "answer": "A"}) for n in range(5_000)
            )
        ).encode()
    )
    found = load_bytes(packed[: len(packed) // 2], "a.jsonl.gz")
    assert 1_000 < len(found.records) < 4_000
    assert "its gzip data is damaged after record" in found.rejected[-1]
    bomb = gzip.compress(b"\n" * (3 << 20))
    assert load_bytes(bomb, "a.jsonl.gz", max_unpacked_mb=2).reason == (
        "it unpacks to more than 2 MB: data.loaders.max_unpacked_mb"
    )
    assert load_bytes(gzip.compress(gzip.compress(b"[]")), "a.json").reason
    assert (
        "Git LFS" in load_bytes(b"version https://git-lfs.github.com/spec/v1\n", "a.parquet").reason
    )


ROWS = [[f'Where is "boat" {n}?', f"It came,\nand {n} went.", f"At quay {n}."] for n in range(20)]


@pytest.mark.parametrize("separator", [",", "\t", ";"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.json", "a.csv.gz"])
def test_tables_are_read_whatever_separates_their_cells(separator: str, name: str) -> None:
    found = load_bytes(b"\xef\xbb\xbf" + table(separator, ROWS).encode(), name)
    assert answers(found) == [row[2] for row in ROWS]
    assert [record.input for record in found.records] == [row[1] for row in ROWS]


def test_cells_may_hold_json_and_empty_cells_are_not_there() -> None:
    rows = [[json.dumps(TURNS), "", ""], ["", "What?", "That."], ["[{'role': 'user'}]", "", ""]]
    found = load_bytes(table(",", rows, "messages prompt completion").encode(), "a.csv")
    assert answers(found) == ["Biscuit.", "That."]
    assert "is a string that is not JSON" in found.rejected[0]


def test_rows_whose_cells_do_not_fit_are_turned_away_one_by_one() -> None:
    text = "question,answer\na,b\nc\nd,e,f\ng,h,,\n\n,\nx,y\n"
    found = load_bytes(text.encode(), "a.csv")
    assert answers(found) == ["b", "h", "y"]
    assert [reason.partition(",")[0] for reason in found.rejected] == ["line 3", "line 4"]


@pytest.mark.parametrize("at", [0, 7, 19])
def test_an_open_quote_costs_its_row(at: int) -> None:
    plain = [[f"Where is {n}?", "-", f"quay {n}"] for n in range(20)]
    text = table(",", plain).replace(f"quay {at}\r", f'"quay {at}\r')
    found = load_bytes(text.encode(), "a.csv")
    assert answers(found) == [row[2] for row in plain if row[2] != f"quay {at}"]
    assert found.lost == 1
    assert found.rejected[0].startswith(f"line {at + 2}, ")


def test_quotes_that_never_match_end_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_BUDGET", 2_000)
    text = "question,answer\n" + 'a,"b\n' * 500
    found = load_bytes(text.encode(), "a.csv")
    assert not found.records
    assert found.lost == 500
    assert "the rest of the file was not read" in found.rejected[-1]


def test_a_table_without_record_columns_says_which_it_has() -> None:
    head = ",".join(f"c{n}" for n in range(1_000))
    reason = load_bytes(f"{head}\n{head}\n".encode(), "a.csv").reason
    assert reason.startswith("its columns are c0, c1, ")
    assert "and 992 more: a table of records has" in reason
    wide = load_bytes(f"question,{head},answer\nq,{head},a\n".encode(), "a.csv")
    assert answers(wide) == ["a"]
    assert len(wide.unused) == 51


def test_cells_and_records_of_a_megabyte_are_read() -> None:
    long = "x" * 2**20
    assert answers(load_bytes(f"question,answer\nq,{long}\n".encode(), "a.csv")) == [long]
    assert answers(load_bytes(json.dumps({"question": "q", "answer": long}).encode())) == [long]


def test_parquet_is_read_in_the_parser_process(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = [
        {
            "messages": [*TURNS, {**TURNS[0], "weight": None}, {**TURNS[1], "weight": 0}],
            "prompt": None,
            "completion": None,
        },
        {"messages": None, "prompt": "What?", "completion": "That."},
        {"messages": None, "prompt": "No answer", "completion": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet", max_memory_mb=256)
    assert [len(record.messages) for record in found.records] == [4, 2]
    assert found.records[0].messages[-1]["trained"] is False
    assert found.parsed.records_rejected == 1
    assert found.parsed.rejected[0].startswith("record 3: its keys are prompt")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "b.parquet")
    assert read(tmp_path / "b.parquet").reason.startswith("its columns are x: ")
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[30:90] = b"\0" * 60
    (tmp_path / "c.parquet").write_bytes(content)
    assert "its Parquet data is damaged" in read(tmp_path / "c.parquet").reason


def test_texts_of_a_record_file_are_samples(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"text": "One."}\n{"text": "Two.", "url": "x"}\n{"text": " "}\n'
    )
    (tmp_path / "a.txt").write_text("One.")
    found = read(tmp_path / "a.jsonl")
    assert [document.sample for document in found.documents] == [True, True]
    assert found.parsed.unused_keys == [{"key": "url", "records": 1}]
    assert found.parsed.records_rejected == 1
    assert not read(tmp_path / "a.txt").documents[0].sample


@given(
    content=st.text(st.sampled_from('{}[]",:\n aq1\ufeff\\'), max_size=60),
    name=st.sampled_from(NAMES),
)
def test_no_text_makes_loading_raise(content: str, name: str) -> None:
    found = load_bytes((content + " ").encode(), name)
    assert found.records or found.texts or found.rejected or found.reason


@given(st.lists(st.sampled_from(["good", "bad", "broken"]), min_size=2, max_size=8), st.booleans())
def test_what_is_read_and_what_is_lost_are_all_entries(kinds: list[str], in_list: bool) -> None:
    kind = {"good": json.dumps(GOOD[0]), "bad": '{"question": 1}', "broken": '{"question": no}'}
    lines = [kind[each] for each in kinds]
    text = "[\n" + ",\n".join(lines) + "\n]" if in_list else "\n".join(lines)
    found = load_bytes(text.encode())
    assert len(found.records) == kinds.count("good")
    assert found.lost == len(kinds) - kinds.count("good")
