"""What a refresh prints: useful counters, and the files left out with the reason."""

from ft_assets.cli.console import left_out
from ft_assets.cli.progress import counted
from ft_assets_tests.conftest import Corpus, RunCLI


def test_a_counter_of_zero_is_not_printed_but_a_measured_zero_is() -> None:
    counts = {"train_rows": 1200, "tokens_cut_by_max_length": 0, "base_key_facts": 0.0}
    assert counted(counts) == "1,200 train rows, 0 base key facts"


def test_of_many_reasons_the_first_few_are_printed() -> None:
    lines = list(left_out("a.jsonl", [f"line {line}: no answer" for line in range(1, 9)]))
    assert len(lines) == 6
    assert lines[0] == "a.jsonl: left out: line 1: no answer"
    assert lines[-1] == "a.jsonl: left out: 3 more; all are in rejected.parquet"


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
