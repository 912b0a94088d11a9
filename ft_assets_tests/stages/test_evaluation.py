"""The gate before merging goes by key facts, else by the loss of enough rows."""

import pytest

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
