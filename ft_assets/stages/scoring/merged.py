"""The merged model, as it was saved, asked what the adapter was asked.

Merging and saving round the weights, most where the base was trained in four bits. What people use is the
merged model, so it is compared with the adapter and with the base again.
"""

from pathlib import Path

from ft_assets.manifest import Verdict
from ft_assets.records import ComparedAnswer, spellings
from ft_assets.stages.general.texts import general_text
from ft_assets.stages.job import Check, Report
from ft_assets.stages.key_facts import has_key_fact
from ft_assets.stages.models.generation import answers
from ft_assets.stages.models.precision import precision_of
from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.stages.models.tuned_model import load_model, was_four_bit
from ft_assets.stages.progress import counting
from ft_assets.stages.scoring.files import ANSWERS, read_metrics
from ft_assets.stages.scoring.four_bit import four_bit_metrics, text_logits
from ft_assets.stages.scoring.perplexity import text_perplexity
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager
from ft_assets.tables import read_table

MERGED_ANSWERS = Check(
    "merged_answers_as_well",
    "The merged model, as it was saved, answers as well as the adapter.",
    blocking=False,
    blocks_if="it gives fewer key facts than the base",
)
_LOST = 0.1
"""The share of the adapter's key facts, one at least, that rounding may cost; it flips near-ties."""
_WORSE_TEXT = 1.1
"""Times the adapter's perplexity of general text."""


def merged_metrics(
    merged: Path, adapter: Path, evaluation: Path, max_new_tokens: int, report: Report
) -> dict[str, float]:
    """What the saved model in a folder gives, beside what base and adapter gave in the evaluation, and
    beside the adapter on a 4-bit base if it was trained on one.

    The key facts are there only if the corpus has questions, the perplexities only if the template can
    render general questions.
    """
    found = read_metrics(evaluation)
    keys = ("questions", "base_key_facts", "tuned_key_facts", "tuned_general_perplexity")
    metrics = {key: found[key] for key in keys if key in found}
    tokenizer = tokenizer_of(merged)
    model = load_model(merged, precision_of("auto"))
    if "questions" in metrics:
        asked = list(read_table(evaluation / ANSWERS, ComparedAnswer))
        manager = PromptTemplateManager(tokenizer)
        prompts = [manager.question(row.question) for row in asked]
        given = answers(model, tokenizer, prompts, max_new_tokens)
        what = "questions answered by the merged model"
        metrics["merged_key_facts"] = sum(
            has_key_fact(each.text, spellings(row))
            for row, each in zip(asked, counting(given, len(asked), what, report), strict=True)
        )
    if "tuned_general_perplexity" in metrics:
        metrics["merged_general_perplexity"] = text_perplexity(model, tokenizer, general_text())
    if was_four_bit(adapter):
        logits = text_logits(model, tokenizer, general_text())
        del model
        metrics |= four_bit_metrics(adapter, logits, tokenizer, general_text(), report)
    return metrics


def merged_verdict(metrics: dict[str, float]) -> dict[str, Verdict]:
    """The verdict of MERGED_ANSWERS."""
    said, passed, blocking = [], True, False
    if "questions" in metrics:
        base, tuned = metrics["base_key_facts"], metrics["tuned_key_facts"]
        merged = metrics["merged_key_facts"]
        blocking = merged < base
        passed = not blocking and merged >= tuned - max(1, tuned * _LOST)
        said.append(
            f"key facts: merged {merged:.0f}, adapter {tuned:.0f}, base {base:.0f} "
            f"of {metrics['questions']:.0f}"
        )
    if "merged_general_perplexity" in metrics:
        before, after = metrics["tuned_general_perplexity"], metrics["merged_general_perplexity"]
        passed = passed and after <= before * _WORSE_TEXT
        said.append(f"perplexity of general text: merged {after:.1f}, adapter {before:.1f}")
    if "four_bit_kl" in metrics:
        said.append(
            "the adapter beside its 4-bit base differs from the merged model by a KL divergence of "
            f"{metrics['four_bit_kl']:.3g} nats a token and agrees on {metrics['four_bit_top1']:.0%} of them"
        )
    message = "; ".join(said) or "not compared: there is nothing to ask"
    return MERGED_ANSWERS.verdict(passed, message, blocking=blocking)
