"""The gate before merging goes by key facts, else by the loss of enough rows."""

import pytest

from ft_assets.stages.scoring.merged import merged_verdict
from ft_assets.stages.scoring.verdicts import verdicts


def losses(rows: int, tuned: float) -> dict[str, float]:
    return {"eval_rows": rows, "base_eval_loss": 2.0, "tuned_eval_loss": tuned}


@pytest.mark.parametrize(
    ("rows", "tuned", "passed"),
    [(20, 2.5, False), (19, 2.5, True), (1, 9.0, True), (20, 1.5, True), (400, 2.001, False)],
)
def test_the_loss_of_few_rows_blocks_nothing(rows: int, tuned: float, passed: bool) -> None:
    verdict = verdicts(losses(rows, tuned))["tuned_is_not_worse"]
    assert verdict["passed"] == passed
    assert ("too few to judge by" in verdict["message"]) == (rows < 20)


def test_key_facts_still_gate_with_few_rows() -> None:
    asked = {"questions": 4.0, "base_key_facts": 3.0, "tuned_key_facts": 1.0}
    assert not verdicts({**losses(5, 1.0), **asked})["tuned_is_not_worse"]["passed"]


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        (
            {"questions": 10.0, "base_key_facts": 0.0, "tuned_key_facts": 0.0},
            "tuned 0, base 0 of 10",
        ),
        ({"questions": 10.0, "base_key_facts": 3.0, "tuned_key_facts": 3.0}, "qa.enabled"),
        (losses(400, 2.0), "nothing was learned"),
        ({}, "write questions.jsonl"),
    ],
)
def test_a_training_that_gains_nothing_warns_and_says_what_to_try(
    metrics: dict[str, float], says: str
) -> None:
    checks = verdicts(metrics)
    assert checks["tuned_is_not_worse"]["passed"]
    assert not checks["tuned_learned"]["passed"]
    assert not checks["tuned_learned"]["blocking"]
    assert says in checks["tuned_learned"]["message"]


def test_a_training_that_gains_does_not_warn() -> None:
    asked = {"questions": 4.0, "base_key_facts": 0.0, "tuned_key_facts": 1.0}
    assert verdicts(asked)["tuned_learned"]["passed"]
    assert verdicts(losses(30, 1.5))["tuned_learned"]["passed"]


def general(base: float, tuned: float, text: float = 20.0) -> dict[str, float]:
    return {
        "general_questions": 20.0,
        "base_general_answers": base,
        "tuned_general_answers": tuned,
        "base_general_perplexity": 20.0,
        "tuned_general_perplexity": text,
    }


@pytest.mark.parametrize(
    ("metrics", "passed"),
    [
        (general(16, 11), True),
        (general(16, 10), False),
        (general(16, 16, text=41.0), False),
        (general(16, 16, text=39.0), True),
        (general(3, 0), True),  # the base answers too few: chance
        ({}, True),
    ],
)
def test_forgetting_warns_and_says_what_to_try(metrics: dict[str, float], passed: bool) -> None:
    verdict = verdicts(metrics)["general_ability_is_kept"]
    assert verdict["passed"] == passed
    assert not verdict["blocking"]
    assert ("training.rehearsal" in verdict["message"]) == (not passed)


@pytest.mark.parametrize(
    ("tuned", "base", "empty", "passed"),
    [(1.0, 0.4, 0, True), (0.45, 0.4, 0, True), (0.3, 0.4, 0, False), (1.0, 1.0, 5, False)],
)
def test_answers_that_do_not_end_warn(
    tuned: float, base: float, empty: float, passed: bool
) -> None:
    verdict = verdicts(
        {
            "answers": 40.0,
            "tuned_stop_rate": tuned,
            "base_stop_rate": base,
            "tuned_empty_answers": empty,
        }
    )["answers_end"]
    assert verdict["passed"] == passed
    assert not verdict["blocking"]


def merged(facts: float, text: float = 20.0) -> dict[str, float]:
    return {
        "questions": 24.0,
        "base_key_facts": 2.0,
        "tuned_key_facts": 20.0,
        "merged_key_facts": facts,
        "tuned_general_perplexity": 20.0,
        "merged_general_perplexity": text,
    }


@pytest.mark.parametrize(
    ("metrics", "passed", "blocking"),
    [
        (merged(20), True, False),
        (merged(18), True, False),
        (merged(17), False, False),
        (merged(1), False, True),
        (merged(20, text=22.5), False, False),
        ({}, True, False),
    ],
)
def test_a_merged_model_that_lost_what_was_learned(
    metrics: dict[str, float], passed: bool, blocking: bool
) -> None:
    verdict = merged_verdict(metrics)["merged_answers_as_well"]
    assert (verdict["passed"], verdict["blocking"]) == (passed, blocking)
