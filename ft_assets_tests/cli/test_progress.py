"""What a refresh prints: counters that say something, and files that were left out with the reason."""

import io

from rich.console import Console

from ft_assets.cli.console import left_out
from ft_assets.cli.progress import Progress, counted
from ft_assets_tests.conftest import Corpus, RunCLI


def test_a_counter_of_zero_is_not_printed_but_a_measured_zero_is() -> None:
    counts = {"train_rows": 1200, "tokens_cut_by_max_length": 0, "base_key_facts": 0.0}
    assert counted(counts) == "1,200 train rows, 0 base key facts"


def test_of_many_reasons_the_first_few_are_printed() -> None:
    lines = list(left_out("a.jsonl", [f"line {line}: no answer" for line in range(1, 9)]))
    assert len(lines) == 6
    assert lines[0] == "a.jsonl: left out: line 1: no answer"
    assert lines[-1] == "a.jsonl: left out: 3 more; all are in rejected.parquet"


def test_what_became_of_an_asset_is_said_once() -> None:
    said = io.StringIO()
    console = Console(file=said, width=200)
    progress = Progress(console, console)
    progress.fail("ferry", "adapter", "adapter of ferry is blocked: a check failed")
    progress.fail("ferry", "chunks", "the disk is full")
    assert said.getvalue().splitlines() == [
        "ferry: adapter is blocked: a check failed",
        "ferry: chunks failed: the disk is full",
    ]
    assert list(progress.failed) == [("ferry", "adapter"), ("ferry", "chunks")]


def test_a_rejected_file_is_named_with_its_reason(corpus: Corpus, cli: RunCLI) -> None:
    corpus.write("broken.pdf", b"%PDF-1.4 nothing")
    done = cli("refresh", "ferry", "--until", "raw_documents", COLUMNS="200")
    assert done.returncode == 0
    assert "broken.pdf: left out: " in done.stdout
    assert done.stdout.count("broken.pdf") == 1
    assert " 0 " not in done.stdout
    said = cli("lineage", "ferry", COLUMNS="200").stdout
    assert "broken.pdf: left out: " in said
    rows = [line for line in said.splitlines() if line.startswith("│")]
    assert rows
    assert not any("broken.pdf" in row for row in rows)
