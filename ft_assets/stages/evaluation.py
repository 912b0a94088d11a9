"""Compares base and tuned: loss and perplexity on held-out rows, and closed-book questions."""

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ft_assets.config import EvaluationConfig
from ft_assets.errors import UserError
from ft_assets.manifest import Verdict
from ft_assets.names import QUESTIONS_FILE
from ft_assets.records import ComparedAnswer, Example, prompt_of
from ft_assets.stages.dataset.held_out import ENOUGH_ROWS
from ft_assets.stages.job import Check, Job, Outcome, Report, versions
from ft_assets.stages.key_facts import has_key_fact
from ft_assets.stages.models.head import scoring_only
from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.stages.models.tuned_model import adapter_base, load_model, precision_of
from ft_assets.stages.progress import counting
from ft_assets.stages.questions import Question, read_questions
from ft_assets.stages.templates.conversations import CannotRenderError
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager
from ft_assets.stages.templates.tokenization import IGNORED, tokenized_rows
from ft_assets.tables import batched, read_table, write_table

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

TUNED_IS_NOT_WORSE = Check("tuned_is_not_worse", "The tuned model is not worse than its base.")
TUNED_LEARNED = Check("tuned_learned", "The tuned model is better than its base.", blocking=False)
CHECKS = (TUNED_IS_NOT_WORSE, TUNED_LEARNED)
_ADVICE = (
    "nothing was learned that these measure; more question-answer pairs with several wordings of each "
    "(qa.enabled, augment) teach facts, plain text hardly does; or raise training.num_train_epochs"
)
METRICS = "metrics.json"
SAMPLES = 8
"""The number of held-out rows shown side by side if the corpus has no questions of its own."""
_BATCH = 8
_BATCH_TOKENS = 2_048
"""The most padded tokens in a batch for the loss."""
_SCORED = 1_024
"""Tokens whose logits are in memory at once, because these take most of it."""


def eval_loss(model: "PeftModel", tokenizer: "PreTrainedTokenizerBase", path: Path) -> float:
    """The mean loss per trained token of the rows in `path`, in nats."""
    import torch

    total, count = 0.0, 0
    head = model.get_base_model().get_output_embeddings()
    rows = sorted(tokenized_rows(path, tokenizer), key=lambda row: len(row["input_ids"]))
    limit = getattr(model.config, "max_position_embeddings", None)
    for batch in _by_tokens(rows):
        width = min(len(batch[-1]["input_ids"]), limit or 1 << 30)
        ids = torch.zeros((len(batch), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        labels = torch.full_like(ids, IGNORED)
        for index, row in enumerate(batch):
            size = min(len(row["input_ids"]), width)
            ids[index, :size] = torch.tensor(row["input_ids"][:size])
            labels[index, :size] = torch.tensor(row["labels"][:size])
            mask[index, :size] = 1
        inputs = {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device)}
        trained = (labels[:, 1:] != IGNORED).flatten().nonzero().flatten()
        for places in torch.split(trained, _SCORED):
            targets = labels[:, 1:].flatten()[places].to(model.device)
            # A long row is run once for each piece of it: its logits together may not fit.
            with torch.no_grad(), scoring_only(head, places):
                logits = model(**inputs, use_cache=False).logits[0].float()
            total += float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
            count += len(places)
    return total / count


def _by_tokens(rows: list[dict[str, list[int]]]) -> Iterator[list[dict[str, list[int]]]]:
    """Groups rows, sorted by length, so that a padded batch has at most `_BATCH_TOKENS` tokens."""
    batch: list[dict[str, list[int]]] = []
    for row in rows:
        if batch and (len(batch) + 1) * len(row["input_ids"]) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def answer(
    model: "PeftModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: list[str],
    max_new_tokens: int,
) -> Iterator[str]:
    """The model's greedy answer to each rendered prompt, without special tokens."""
    import torch

    tokenizer.padding_side = "left"
    for batch in batched(prompts, _BATCH):
        inputs = tokenizer(batch, add_special_tokens=False, padding=True, return_tensors="pt")
        inputs = inputs.to(model.device)
        with torch.no_grad():
            output = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=max_new_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                eos_token_id=_stop_ids(model, tokenizer),
                pad_token_id=tokenizer.pad_token_id,
            )
        width = inputs["input_ids"].shape[1]
        for row in output:
            yield str(tokenizer.decode(row[width:], skip_special_tokens=True)).strip()


def _stop_ids(model: "PeftModel", tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """The tokens that end an answer: the tokenizer's, and those of the checkpoint's generation config.

    A family may have several: Gemma's answers end with `<end_of_turn>`, its texts with `<eos>`.
    """
    known = model.generation_config.eos_token_id
    of_model = known if isinstance(known, list) else [known]
    ids = {tokenizer.eos_token_id, *of_model} - {None}
    return sorted(int(each) for each in ids)


def evaluate(
    adapter: Path, dataset: Path, questions: list[Question], max_new_tokens: int, report: Report
) -> tuple[dict[str, float], list[ComparedAnswer]]:
    """The metrics of base and tuned, and their answers side by side.

    The same weights serve both: the base is the tuned model with its adapter switched off.
    """
    from peft import PeftModel

    tokenizer = tokenizer_of(adapter)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    base = load_model(adapter_base(adapter).folder, precision_of("auto"))
    model = PeftModel.from_pretrained(base, adapter).eval()
    metrics: dict[str, float] = {}
    held_out = sum(1 for _ in read_table(dataset / "eval.parquet", Example))
    if held_out:
        report(f"loss on {held_out} held-out rows")
        metrics["eval_rows"] = held_out
        metrics["tuned_eval_loss"] = eval_loss(model, tokenizer, dataset / "eval.parquet")
        with model.disable_adapter():
            metrics["base_eval_loss"] = eval_loss(model, tokenizer, dataset / "eval.parquet")
        for name in ("base", "tuned"):
            metrics[f"{name}_perplexity"] = math.exp(min(metrics[f"{name}_eval_loss"], 700.0))
    asked, prompts = _prompts(questions, dataset, PromptTemplateManager(tokenizer))
    tuned = _asked("tuned", answer(model, tokenizer, prompts, max_new_tokens), len(prompts), report)
    with model.disable_adapter():
        plain = _asked(
            "base", answer(model, tokenizer, prompts, max_new_tokens), len(prompts), report
        )
    answers = [_answer(*row) for row in zip(asked, plain, tuned, strict=True)]
    if questions:
        metrics["questions"] = len(questions)
        metrics["base_key_facts"] = sum(row.base_hit or False for row in answers)
        metrics["tuned_key_facts"] = sum(row.tuned_hit or False for row in answers)
    return metrics, answers


def _asked(name: str, answers: Iterator[str], of: int, report: Report) -> list[str]:
    """All answers of the base or the tuned model, counted while they come."""
    report(f"{of} questions to the {name} model")
    return list(counting(answers, of, f"questions answered by the {name} model", report))


def _prompts(
    questions: list[Question], dataset: Path, manager: PromptTemplateManager
) -> tuple[list[Question], list[str]]:
    """The questions to ask and their prompts; held-out rows if the corpus has no questions.

    Raises UserError if the template cannot render a question.
    """
    if questions:
        return questions, [_prompt(item.question, manager) for item in questions]
    rows = list(_first_rows(read_table(dataset / "eval.parquet", Example)))
    prompts = [prompt_of(row.segments) for row in rows]
    return [Question(prompt) for prompt in prompts], prompts


def _prompt(question: str, manager: PromptTemplateManager) -> str:
    try:
        return manager.prompt([{"role": "user", "content": question}])
    except CannotRenderError as error:
        raise UserError(f"{QUESTIONS_FILE}: {question!r} cannot be asked: {error}") from error


def _first_rows(rows: Iterable[Example]) -> Iterator[Example]:
    count = 0
    for row in rows:
        if row.kind != "text" and count < SAMPLES:
            count += 1
            yield row


def _answer(item: Question, base: str, tuned: str) -> ComparedAnswer:
    facts = item.key_facts
    hits = (has_key_fact(base, facts), has_key_fact(tuned, facts)) if facts else (None, None)
    return ComparedAnswer(item.question, " | ".join(facts) or None, base, tuned, *hits)


def build(job: Job, report: Report) -> Outcome:
    """Builds `evaluation`: `metrics.json` and `answers.parquet`."""
    metrics, answers = evaluate(
        job.inputs["adapter"],
        job.inputs["formatted_dataset"],
        read_questions(job.source / QUESTIONS_FILE),
        job.section(EvaluationConfig).max_new_tokens,
        report,
    )
    (job.output / METRICS).write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n")
    write_table(job.output / "answers.parquet", ComparedAnswer, answers)
    return Outcome(
        counts=metrics, checks=_checks(metrics), tools=versions("torch", "transformers", "peft")
    )


def _checks(metrics: dict[str, float]) -> dict[str, Verdict]:
    """The gate before merging, and a warning if nothing was gained.

    Both go by key facts if there are questions, else by the loss of enough rows.
    """
    if "questions" in metrics:
        of = metrics["questions"]
        gain = metrics["tuned_key_facts"] - metrics["base_key_facts"]
        said = f"key facts: tuned {metrics['tuned_key_facts']:.0f}, base {metrics['base_key_facts']:.0f} of {of:.0f}"
        return {
            **TUNED_IS_NOT_WORSE.verdict(gain >= 0, said),
            **TUNED_LEARNED.verdict(gain > 0, said if gain > 0 else f"{said}: {_ADVICE}"),
        }
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
    return {
        **TUNED_IS_NOT_WORSE.verdict(few or gain >= 0, said),
        **TUNED_LEARNED.verdict(gain > 0, said if gain > 0 else f"{said}: {_ADVICE}"),
    }
