"""What the evaluation found is said in words where a person looks: terminal, status, page and model card."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

from ft_assets.cli.progress import Progress
from ft_assets.defs.assets.evaluation import comparison
from ft_assets.defs.checks import check_results
from ft_assets.defs.metadata import failed_checks
from ft_assets.engine.graph import GRAPH
from ft_assets.engine.project import Made
from ft_assets.errors import StageError
from ft_assets.records import ComparedAnswer
from ft_assets.stages.export.model_card import model_card
from ft_assets.stages.job import Job, Outcome
from ft_assets.stages.scoring.verdicts import verdicts
from ft_assets.tables import write_table
from ft_assets_tests.conftest import Corpus, RunCLI

LEARNS_NOTHING = {"questions": 4.0, "base_key_facts": 1.0, "tuned_key_facts": 1.0}
HARMS = {"questions": 4.0, "base_key_facts": 3.0, "tuned_key_facts": 1.0}
LEARNS = {"questions": 4.0, "base_key_facts": 0.0, "tuned_key_facts": 4.0}
ANSWERS = [
    ComparedAnswer("How tall?", "52 metres", "20 m.", "52 metres.", False, True),
    ComparedAnswer("Who keeps it?", "Ada", "Ada.", "Nobody | none\nat all", True, False),
    ComparedAnswer("And then?", None, "Well.", "Well!", None, None),
]
Build = Callable[[dict[str, float]], dict[str, Made]]


@pytest.fixture
def build(corpus: Corpus, pico_model: Path) -> Build:
    """Builds all assets; in the model half only the evaluation's verdicts and the card are real."""

    def building(metrics: dict[str, float]) -> dict[str, Made]:
        def run(job: Job) -> Outcome:
            if job.asset == "evaluation":
                (job.output / "metrics.json").write_text(json.dumps(metrics))
                write_table(job.output / "answers.parquet", ComparedAnswer, ANSWERS)
                return Outcome(counts=dict(metrics), checks=verdicts(metrics))
            card = model_card(job, metrics, []) if job.asset == "gguf" else ""
            (job.output / "MODEL_CARD.md").write_text(card)
            return Outcome(tools={"base_revision": "1"})

        corpus.settings(f"model: {{base: '{pico_model}'}}")
        heavy = {name: run for name, node in GRAPH.items() if node.heavy}
        return {name: corpus.project.make("ferry", name, heavy.get(name)) for name in GRAPH}

    return building


def _terminal(made: Made) -> str:
    out = Console(file=io.StringIO(), width=400)
    Progress(out, out).made(made)
    return str(out.file.getvalue())  # type: ignore[attr-defined]


def _page(corpus: Corpus, made: Made) -> str:
    return str(failed_checks(corpus.project.storage, made.manifest).get("failed_checks", ""))


def test_a_training_that_learned_nothing_is_a_warning_everywhere(
    corpus: Corpus, cli: RunCLI, build: Build
) -> None:
    built = build(LEARNS_NOTHING)
    said = "tuned_learned: key facts: tuned 1, base 1 of 4: nothing was learned"
    assert f"warning: {said}" in _terminal(built["evaluation"])
    assert f"ferry: evaluation: warning: {said}" in cli("status").stdout
    assert f"warning: {said}" in _page(corpus, built["evaluation"])
    card = (built["gguf"].folder / "MODEL_CARD.md").read_text()
    assert "**Warning, tuned_learned:** key facts: tuned 1, base 1 of 4" in card


def test_a_training_that_harms_is_said_to_block_and_blocks(
    corpus: Corpus, cli: RunCLI, build: Build
) -> None:
    with pytest.raises(StageError, match="check tuned_is_not_worse failed: key facts: tuned 1"):
        build(HARMS)
    manifest = corpus.project.storage.current("ferry", "evaluation")
    assert manifest
    made = Made(manifest, Path(), reused=False, seconds=1.0)
    blocks = (
        "check failed, which blocks what follows: tuned_is_not_worse: key facts: tuned 1, base 3"
    )
    assert blocks in _terminal(made)
    assert blocks in _page(corpus, made)
    said = cli("status").stdout
    assert "blocked" in said
    assert "tuned 1, base 3 of 4" in said


def test_a_training_that_teaches_warns_of_nothing(
    corpus: Corpus, cli: RunCLI, build: Build
) -> None:
    built = build(LEARNS)
    assert "warning" not in cli("status").stdout
    assert _page(corpus, built["evaluation"]) == ""
    assert "Warning" not in (built["gguf"].folder / "MODEL_CARD.md").read_text()


def test_right_and_wrong_answers_are_marked_side_by_side(build: Build) -> None:
    metadata = comparison(build(LEARNS)["evaluation"].folder)
    table = metadata["answers"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [(row.data["base"], row.data["tuned"]) for row in table.records] == [
        ("✗ 20 m.", "✓ 52 metres."),
        ("✓ Ada.", "✗ Nobody | none\nat all"),
        ("Well.", "Well!"),
    ]
    assert isinstance(metadata["right_answers"], dg.MarkdownMetadataValue)


def test_every_check_has_numbers_that_dagster_plots(build: Build) -> None:
    for name in ("raw_documents", "chunks", "formatted_dataset", "evaluation"):
        for check in check_results(build(LEARNS)[name].manifest):
            numbers = [each.value for each in check.metadata.values()]
            assert numbers, (name, check.check_name)
            assert all(isinstance(number, float) for number in numbers)
