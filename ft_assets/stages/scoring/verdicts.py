"""The verdicts on a tuned model, from its metrics and its base's."""

from ft_assets.manifest import Verdict
from ft_assets.names import QUESTIONS_FILE
from ft_assets.stages.dataset.held_out import ENOUGH_ROWS
from ft_assets.stages.job import Check

TUNED_IS_NOT_WORSE = Check("tuned_is_not_worse", "The tuned model is not worse than its base.")
TUNED_LEARNED = Check("tuned_learned", "The tuned model is better than its base.", blocking=False)
GENERAL_ABILITY = Check(
    "general_ability_is_kept",
    "The tuned model still answers most general questions that its base answers.",
    blocking=False,
)
ANSWERS_END = Check(
    "answers_end", "The tuned model ends its answers, and none is empty.", blocking=False
)
ANSWERS_ARE_JUDGED = Check(
    "answers_are_judged", "The judge gave a verdict on every answer.", blocking=False
)
CHECKS = (TUNED_IS_NOT_WORSE, TUNED_LEARNED, GENERAL_ABILITY, ANSWERS_END, ANSWERS_ARE_JUDGED)

_ADVICE = (
    "nothing was learned that these measure; more question-answer pairs with several wordings of each "
    "(qa.enabled, augment) teach facts, plain text hardly does; or raise training.num_train_epochs"
)
_FORGOTTEN = (
    "raise training.rehearsal, or lower training.num_train_epochs or training.learning_rate"
)
_UNENDED = (
    "an answer must end with the stop token: look at rows with `ft-assets show CORPUS train`, or raise "
    "evaluation.max_new_tokens if the answers are long"
)
_KEPT = 2 / 3
"""Of the general questions that the base answers: if the tuned model answers fewer, it warns."""
_ENOUGH_GENERAL = 6
"""If the base answers fewer general questions, the count after training is chance."""
_WORSE_TEXT = 2.0
"""Times the base's perplexity of general text: from there on it warns."""
_ENDED = 0.5
_EMPTY = 0.1

Metrics = dict[str, float]


def verdicts(metrics: Metrics) -> dict[str, Verdict]:
    """The verdict of each of CHECKS; that on the judge if there is none, or before it was asked."""
    no_judge = ANSWERS_ARE_JUDGED.verdict(True, "evaluation.judge is off")
    return {**_compared(metrics), **_general(metrics), **_ends(metrics), **no_judge}


def _compared(metrics: Metrics) -> dict[str, Verdict]:
    """The gate before merging, and a warning if nothing was gained.

    Both go by key facts if there are questions, else by the loss of enough rows.
    """
    if "questions" in metrics:
        gain = metrics["tuned_key_facts"] - metrics["base_key_facts"]
        return _gained(gain, gain < 0, _of(metrics, "key facts", "key_facts", "questions"))
    if "tuned_eval_loss" not in metrics:
        said = "not compared: no row is held out and the corpus has no questions"
        return {
            **TUNED_IS_NOT_WORSE.verdict(True, said),
            **TUNED_LEARNED.verdict(False, f"{said}; write {QUESTIONS_FILE}"),
        }
    gain = metrics["base_eval_loss"] - metrics["tuned_eval_loss"]
    said = (
        f"loss on held-out rows: tuned {metrics['tuned_eval_loss']:.3f}, "
        f"base {metrics['base_eval_loss']:.3f}"
    )
    few = metrics["eval_rows"] < ENOUGH_ROWS
    if few:
        said += (
            f"; {metrics['eval_rows']:.0f} rows are too few to judge by: {ENOUGH_ROWS} are needed"
        )
    return _gained(gain, not few and gain < 0, said)


def _gained(gain: float, worse: bool, said: str) -> dict[str, Verdict]:
    return {
        **TUNED_IS_NOT_WORSE.verdict(not worse, said),
        **TUNED_LEARNED.verdict(gain > 0, said if gain > 0 else f"{said}: {_ADVICE}"),
    }


def _of(metrics: Metrics, what: str, key: str, of: str) -> str:
    return (
        f"{what}: tuned {metrics[f'tuned_{key}']:.0f}, base {metrics[f'base_{key}']:.0f} "
        f"of {metrics[of]:.0f}"
    )


def _general(metrics: Metrics) -> dict[str, Verdict]:
    if "general_questions" not in metrics:
        said = "not asked: the template cannot render a general question"
        return GENERAL_ABILITY.verdict(True, said)
    base, tuned = metrics["base_general_answers"], metrics["tuned_general_answers"]
    forgot = base >= _ENOUGH_GENERAL and tuned < base * _KEPT
    before, after = metrics["base_general_perplexity"], metrics["tuned_general_perplexity"]
    passed = not forgot and after < before * _WORSE_TEXT
    said = (
        _of(metrics, "general questions", "general_answers", "general_questions")
        + f"; perplexity of general text: tuned {after:.1f}, base {before:.1f}"
    )
    return GENERAL_ABILITY.verdict(passed, said if passed else f"{said}: {_FORGOTTEN}")


def _ends(metrics: Metrics) -> dict[str, Verdict]:
    if not metrics.get("answers"):
        return ANSWERS_END.verdict(True, "nothing was asked")
    tuned, base = metrics["tuned_stop_rate"], metrics["base_stop_rate"]
    empty = metrics["tuned_empty_answers"]
    ended = tuned >= min(_ENDED, base) and empty <= metrics["answers"] * _EMPTY
    said = (
        f"of {metrics['answers']:.0f} answers {tuned:.0%} end by themselves (base {base:.0%})"
        f", {empty:.0f} are empty"
    )
    return ANSWERS_END.verdict(ended, said if ended else f"{said}: {_UNENDED}")
