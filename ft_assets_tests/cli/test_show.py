"""What `show` prints: rows with file and page, what is trained, and nothing that a terminal obeys."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ft_assets.cli.console import print_rows, shortened
from ft_assets.cli.verbs import show as show_verb
from ft_assets.engine import table_view
from ft_assets.engine.show import show
from ft_assets.engine.shown import Part, as_text
from ft_assets.engine.table_view import TableView, spread
from ft_assets.records import Chunk
from ft_assets.tables import Rows, TextWriter, to_table
from ft_assets_tests.cli.conftest import RunVerb
from ft_assets_tests.conftest import PROSE, Corpus

DATA_HALF = ("raw_documents", "chunks", "qa_pairs", "formatted_dataset")


@pytest.fixture
def built(corpus: Corpus, pico_model: Path) -> Corpus:
    """A corpus with a copy, equal records, a bad record and a control character."""
    records = [
        {"question": f"Crate {n % 6}?", "answer": f"It holds {n % 6 * 7}."} for n in range(9)
    ]
    lines = [*map(json.dumps, records), '{"bad": 1}', json.dumps({"text": "red \x1b[31m alert"})]
    (corpus.folder / "crates.json").unlink()
    corpus.write("crates.jsonl", "\n".join(lines))
    corpus.write("old/copy.txt", PROSE)
    corpus.write("broken.pdf", b"%PDF-1.4 nothing")
    corpus.settings(
        f"model: {{base: '{pico_model}'}}\n"
        "data: {eval_fraction: 0, gates: {rejected_documents: 1, duplicate_rows: 1}}"
    )
    for asset in DATA_HALF:
        corpus.project.make("ferry", asset)
    return corpus


def rows(verb: RunVerb, *arguments: str) -> list[dict[str, Any]]:
    done = verb("show", "ferry", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    return found


def test_each_row_names_its_file_and_its_page_or_record(built: Corpus, verb: RunVerb) -> None:
    said = verb("show", "ferry", "train", "-n", "50").stdout
    assert "── crates.jsonl, record 2 · " in said
    assert "── ferry.txt, page 1, and 1 file with the same content · " in said
    assert "user: Crate 1?<|end|>assistant: [trained]It holds 7.<|end|>[/trained]" in said
    for what in ("documents", "records", "chunks"):
        done = verb("show", "ferry", what, "-n", "50")
        assert done.returncode == 0
        assert "crates.jsonl, " in done.stdout


def test_a_dropped_row_says_why_and_what_it_duplicates(built: Corpus, verb: RunVerb) -> None:
    said = verb("show", "ferry", "dropped").stdout
    for number in (7, 8, 9):
        head = f"── crates.jsonl, record {number} · it equals another · it duplicates crates.jsonl, record "
        assert f"{head}{number - 6} · " in said
    assert "assistant: It holds 14." in said
    (row,) = rows(verb, "dropped", "--grep", "CRATE 2")
    assert row["place"]["record"] == 9


def test_rejected_files_are_shown_with_their_reasons(built: Corpus, verb: RunVerb) -> None:
    said = verb("show", "ferry", "rejected").stdout
    assert "── broken.pdf\n" in said
    assert "its keys are bad" in said
    (row,) = rows(verb, "rejected", "--source", "crates.jsonl")
    assert row["path"] == "crates.jsonl"


def test_no_control_character_reaches_a_terminal(built: Corpus, verb: RunVerb) -> None:
    said = verb("show", "ferry", "documents", "--grep", "ALERT").stdout
    assert "red \\x1b[31m alert" in said
    assert "\x1b" not in said
    (row,) = rows(verb, "documents", "--grep", "alert")
    assert row["text"] == "red \x1b[31m alert"


def test_a_terminal_has_colours_instead_of_marks(
    built: Corpus, verb: RunVerb, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Console(force_terminal=True, color_system="standard")
    terminal.no_color = False
    monkeypatch.setattr(show_verb, "out", terminal)
    said = verb("show", "ferry", "train", "--grep", "crate 1").stdout
    assert "\x1b[32mIt holds 7.<|end|>\x1b[0m" in said
    assert "[trained]" not in said


@pytest.mark.parametrize(
    "path", ["old/copy.txt", "ferry/old/copy.txt", "./data/ferry/old/copy.txt"]
)
def test_a_source_chooses_the_rows_of_one_file(built: Corpus, verb: RunVerb, path: str) -> None:
    found = rows(verb, "train", "--source", path)
    assert {row["place"]["path"] for row in found} == {"ferry.txt"}
    assert found[0]["place"]["same"] == 1


def test_a_source_that_is_not_there_or_was_left_out(built: Corpus, verb: RunVerb) -> None:
    done = verb("show", "ferry", "train", "--source", "copy.tx")
    assert done.returncode == 1
    assert "near are old/copy.txt" in done.stderr
    done = verb("show", "ferry", "train", "--source", "broken.pdf")
    assert done.returncode == 1
    assert "broken.pdf was left out: pdfium cannot open it" in done.stderr


def test_what_was_never_built_names_the_command(corpus: Corpus, verb: RunVerb) -> None:
    done = verb("show", "ferry", "chunks")
    assert done.returncode == 1
    assert "ft-assets refresh ferry --until chunks" in done.stderr


def test_an_empty_table_says_why(built: Corpus, verb: RunVerb) -> None:
    assert "qa.enabled" in verb("show", "ferry", "pairs").stdout
    assert "nothing is held out" in verb("show", "ferry", "eval").stdout
    assert "no row with 'zebra'" in verb("show", "ferry", "train", "--grep", "zebra").stdout


def test_show_loads_nothing_heavy(built: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FT_ASSETS_DATA", str(built.project.data))
    monkeypatch.setenv("FT_ASSETS_STORAGE", str(built.project.storage.root))
    code = (
        "import sys\nfrom ft_assets.cli import app\n"
        "app(['show', 'ferry', 'train', '--json'], standalone_mode=False)\n"
        "print([m for m in ('torch', 'transformers', 'dagster', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def write(path: Path, texts: dict[str, list[str]]) -> list[str]:
    """A table with a chunk for each word of each text; returns the words in order."""
    with TextWriter(path, Chunk) as writer:
        for text_id, words in sorted(texts.items()):
            chunks = [Chunk(f"{text_id}{word}", text_id, 1, 0, 1, word, "") for word in words]
            writer.add(text_id, [Rows.of(to_table(Chunk, chunks))] if chunks else [])
    return [word for _, words in sorted(texts.items()) for word in words]


@given(
    st.dictionaries(
        st.text("0123456789abcdef", min_size=32, max_size=32),
        st.lists(st.sampled_from(["Ärger", "ärgern", "boat", "BOATS", ""]), max_size=30),
        max_size=8,
    ),
    st.integers(1, 40),
)
def test_any_rows_are_found_at_their_places(
    tmp_path_factory: pytest.TempPathFactory, texts: dict[str, list[str]], most: int
) -> None:
    from ft_assets.engine.masks import contains, has

    path = tmp_path_factory.mktemp("table") / "chunks.parquet"
    words = write(path, texts)
    view = TableView(path)
    assert view.rows == len(words)
    places = spread(len(words), most)
    assert len(places) == min(most, len(words)) == len(set(places))
    assert [row["text"] for row in view.at(places)] == [words[place] for place in places]
    for grep in ("ÄRGER", "boat"):
        hits = [n for n, word in enumerate(words) if grep.lower() in word.lower()]
        assert list(view.places(["text"], contains(["text"], grep))) == hits
    for text_id in texts:
        found = view.places(["text_id"], has("text_id", {text_id}), {text_id})
        assert [row["text"] for row in view.at(list(found))] == texts[text_id]


def test_a_few_rows_of_many_are_read_without_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {
        f"{n:08x}{n * 2654435761 % 2**32:08x}".ljust(32, "0"): ["word"] * 40 for n in range(200)
    }
    write(tmp_path / "chunks.parquet", texts)
    view = TableView(tmp_path / "chunks.parquet")
    counted = Mock(wraps=table_view._read)
    monkeypatch.setattr(table_view, "_read", counted)
    assert len(view.at(spread(view.rows, 5))) == 5
    assert counted.call_count <= 5


def test_a_search_ends_with_the_last_row_that_is_shown(
    built: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = show(built.project, "ferry", "train", most=1, grep="holds")
    assert (len(found.rows), found.matches) == (1, None)
    found = show(built.project, "ferry", "train", most=9, grep="holds")
    assert (len(found.rows), found.matches) == (6, 6)


def test_a_mark_in_a_text_ends_no_mark() -> None:
    said = as_text([Part("", "ask ", False), Part("", "a[/trained]b", True)])
    assert said == "ask [trained]a\\[/trained]b[/trained]"


def test_a_long_text_loses_its_middle() -> None:
    said = as_text([Part("", "a" * 5_000 + "z" * 5_000)])
    assert len(said) < 2_000
    assert "[…8,400 more characters…]" in said
    assert said.startswith("aaa")
    assert said.endswith("zzz")


@given(st.text("abé漢/", max_size=60), st.integers(3, 40))
def test_a_shortened_path_fits(path: str, room: int) -> None:
    from rich.cells import cell_len

    said = shortened(path, room)
    assert cell_len(said) <= room
    assert said == path or "…" in said


@pytest.mark.parametrize("width", [20, 50, 80, 120])
def test_ids_and_paths_keep_to_one_line(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    path = "reports/of/the/harbour/office/twenty-twenty-six/the_annual_report.txt"
    table = [{"path": path, "document_id": "76f241ead83b", "train_rows": 12, "train_tokens": 1200}]
    print_rows("ferry", list(table[0]), table)
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if "76f241ead83b" in line]
    assert "rep" in line
    assert ".txt" in line
    assert "1,200" in line
