"""What a refresh prints: counts in words, and files that were left out with the reason."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from ft_assets.cli.console import left_out
from ft_assets.cli.counts import in_words
from ft_assets.cli.progress import Progress
from ft_assets.engine.project import Made, Project
from ft_assets.manifest import Verdict
from ft_assets_tests.conftest import Corpus, RunCLI, made_of

COUNTS: list[tuple[str, dict[str, int | float], str]] = [
    (
        "raw_documents",
        {"files": 4, "files_read": 2, "files_with_rejects": 3, "pages": 1200, "records": 0},
        "2 of 4 files read (1 in part), 2 left out, 1,200 pages",
    ),
    (
        "raw_documents",
        {"files": 1, "files_read": 1, "files_with_rejects": 0, "pages": 1, "unsound_texts": 1},
        "1 file read, 1 page, 1 text looks damaged",
    ),
    ("chunks", {"chunks": 11}, "11 chunks"),
    (
        "qa_pairs",
        {"pairs": 31, "kept_rate": 0.886, "requested": 12, "answered": 11, "invalid": 1},
        "31 pairs, 89% kept, 12 requests, 1 invalid",
    ),
    (
        "formatted_dataset",
        {"origins": 2, "train_rows": 1, "train_tokens": 48, "eval_rows": 1, "dropped_rows": 0},
        "1 training row (48 tokens), 1 eval row",
    ),
    (
        "adapter",
        {"steps": 12, "train_rows": 9, "first_loss": 3.2149, "last_loss": 0.0},
        "12 steps, loss 3.21 → 0",
    ),
    (
        "adapter",
        {"steps": 1, "first_loss": 3.0, "last_loss": 1.0}
        | {"first_eval_loss": 2.25, "last_eval_loss": 2.5},
        "1 step, loss 3 → 1, held-out loss 2.25 → 2.5",
    ),
    (
        "evaluation",
        {"eval_rows": 1, "base_eval_loss": 3.0, "tuned_eval_loss": 2.5}
        | {"questions": 8, "base_key_facts": 0, "tuned_key_facts": 7},
        "eval loss 3 → 2.5 on 1 row, key facts 0 → 7 of 8",
    ),
    ("merged_model", {"max_logit_change": 0.000012}, "largest change of a logit 1.2e-05"),
    ("gguf", {"f16_megabytes": 270.88, "Q4_K_M_megabytes": 0.3}, "f16 270.9 MB, Q4_K_M 300.0 kB"),
    (
        "gguf",
        {"Q4_K_M_megabytes": 105.5, "Q4_K_M_kl": 0.0518, "Q4_K_M_top1": 0.881}
        | {"lora_megabytes": 1.9, "lora_top1": 0.0},
        "Q4_K_M 105.5 MB (KL 0.052, top-1 88.1%), lora 1.9 MB",
    ),
    ("gguf", {}, ""),
]


@pytest.mark.parametrize(("asset", "counts", "says"), COUNTS)
def test_counts_worth_a_line_are_said_in_words(
    asset: str, counts: dict[str, int | float], says: str
) -> None:
    assert in_words(replace(made_of("ferry", asset), counts=counts)) == says


def test_what_was_planned_and_is_unchanged_is_said() -> None:
    said = io.StringIO()
    progress = Progress(Console(file=said, width=200), Console(file=said))
    progress.plan("ferry", ["chunks", "qa_pairs"])
    pairs = replace(made_of("ferry", "qa_pairs"), settings={"qa.enabled": False})
    for manifest in (made_of("ferry", "raw_documents"), made_of("ferry", "chunks"), pairs):
        progress.made(Made(manifest, Path(), reused=True, seconds=0.0))
    assert said.getvalue().splitlines() == [
        "ferry: building chunks, qa_pairs",
        "  chunks unchanged",
        "  qa_pairs off (qa.enabled is false)",
    ]
    assert ["chunks" in name for name in progress.lists()["reused"]] == [False, True, False]


def test_of_many_reasons_the_first_few_are_printed() -> None:
    reasons = [f"line {line}: key {line}" for line in range(1, 8)]
    lines = list(left_out("a.jsonl", [*reasons, "line 8: no answer", "line 9: no answer"]))
    assert len(lines) == 6
    assert lines[0] == "a.jsonl: left out: 2 times, first in line 8: no answer"
    assert lines[1] == "a.jsonl: left out: line 1: key 1"
    assert "3 more reasons; ft-assets show CORPUS rejected --json" in lines[-1]


def test_a_check_that_blocks_is_told_from_a_warning() -> None:
    said = io.StringIO()
    console = Console(file=said, width=200)
    checks: dict[str, Verdict] = {
        "few_duplicates": {"passed": False, "blocking": True, "message": "9 of 10"},
        "eval_is_large_enough": {"passed": False, "blocking": False, "message": "3 rows"},
        "rows_are_rendered": {"passed": True, "blocking": True, "message": "all"},
    }
    manifest = replace(made_of("ferry", "chunks"), checks=checks)
    Progress(console, console).made(Made(manifest, Path(), reused=False, seconds=0.0))
    assert said.getvalue().splitlines()[1:] == [
        "    check failed, which blocks what follows: few_duplicates: 9 of 10",
        "    warning: eval_is_large_enough: 3 rows",
    ]


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


def test_what_was_reused_is_said(corpus: Corpus, pico_model: Path) -> None:
    said = io.StringIO()
    console = Console(file=said, width=200)
    progress = Progress(console, console)
    project = Project(
        corpus.project.data,
        corpus.project.storage.root,
        progress.made,
        on_line=progress.say,
    )
    corpus.settings(f"model: {{base: '{pico_model}'}}")
    corpus.write("copy.txt", "The tide table hangs in the hall.")
    corpus.write("note.zip", b"PK")

    def build() -> str:
        said.truncate(0)
        for asset in ("raw_documents", "chunks", "qa_pairs", "formatted_dataset"):
            project.make("ferry", asset)
        return said.getvalue()

    assert "reused" not in build()
    corpus.write("new.txt", "The baker sells tickets for buttons.")
    after = build()
    assert "; 1 of 4 documents parsed, 3 reused" in after
    assert "; 1 of 3 texts cut, 2 reused" in after
    rows = project.storage.current("ferry", "formatted_dataset")
    assert rows
    made = int(rows.counts["train_rows"] + rows.counts["eval_rows"])
    assert f"; 1 of {made} rows rendered, {made - 1} reused" in after
