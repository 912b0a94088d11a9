"""Base and tuned model on what neither was trained on.

Held-out rows give a loss and answers beside their references, the questions of the corpus the key facts,
general questions what the training cost. The same weights serve both models: the base is the tuned model
with its adapter switched off.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ft_assets.config import EvaluationConfig
from ft_assets.errors import UserError
from ft_assets.names import QUESTIONS_FILE
from ft_assets.records import ComparedAnswer, Example, joined, prompt_of
from ft_assets.stages.general.texts import general_questions, general_text
from ft_assets.stages.job import Job, Outcome, Report, versions
from ft_assets.stages.key_facts import has_key_fact
from ft_assets.stages.models.generation import Answer, answers
from ft_assets.stages.models.loss import mean_loss
from ft_assets.stages.models.precision import precision_of
from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.stages.models.tuned_model import adapter_base, load_model
from ft_assets.stages.progress import counting
from ft_assets.stages.questions import Question, read_questions
from ft_assets.stages.scoring.files import (
    ANSWERS,
    GENERAL_ANSWERS,
    HELD_OUT_ANSWERS,
    write_metrics,
)
from ft_assets.stages.scoring.judging import judge_answers, prepare_judge
from ft_assets.stages.scoring.perplexity import perplexity, text_perplexity
from ft_assets.stages.scoring.references import exact_match, token_f1
from ft_assets.stages.scoring.verdicts import CHECKS as CHECKS
from ft_assets.stages.scoring.verdicts import verdicts
from ft_assets.stages.templates.conversations import CannotRenderError
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager
from ft_assets.stages.templates.tokenization import tokenized_rows
from ft_assets.tables import count_rows, read_table, write_table

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HELD_OUT = 16
"""The most held-out rows that are asked."""


@dataclass(frozen=True)
class _Asked:
    """What is asked: the prompt, and what the answer is compared with."""

    question: Question
    prompt: str
    reference: str | None = None


@dataclass
class Evaluation:
    """The metrics of base and tuned, and their answers side by side, by what was asked."""

    metrics: dict[str, float] = field(default_factory=dict)
    questions: list[ComparedAnswer] = field(default_factory=list)
    held_out: list[ComparedAnswer] = field(default_factory=list)
    general: list[ComparedAnswer] = field(default_factory=list)


class _Bench:
    """Base and tuned model, and what each answered so far."""

    def __init__(self, adapter: Path, report: Report) -> None:
        from peft import PeftModel

        self.tokenizer = tokenizer_of(adapter)
        base = load_model(adapter_base(adapter).folder, precision_of("auto"))
        self.model: PeftModel = PeftModel.from_pretrained(base, adapter).eval()
        self.given: dict[str, list[Answer]] = {"base": [], "tuned": []}
        self._report = report

    def both(self, measure: Callable[[], float], name: str) -> dict[str, float]:
        """A measure of both models, as `base_<name>` and `tuned_<name>`."""
        tuned = measure()
        with self.model.disable_adapter():
            return {f"base_{name}": measure(), f"tuned_{name}": tuned}

    def compare(self, asked: list[_Asked], what: str, max_new_tokens: int) -> list[ComparedAnswer]:
        """The answers of both models to prompts."""
        prompts = [each.prompt for each in asked]

        def ask(who: str) -> list[Answer]:
            given = answers(self.model, self.tokenizer, prompts, max_new_tokens)
            what_of = f"{what} answered by the {who} model"
            found = list(counting(given, len(prompts), what_of, self._report))
            self.given[who] += found
            return found

        tuned = ask("tuned")
        with self.model.disable_adapter():
            base = ask("base")
        return [_compared(*row) for row in zip(asked, base, tuned, strict=True)]

    def ends(self) -> dict[str, float]:
        """How many answers of each model end by themselves, and how many are empty."""
        found: dict[str, float] = {"answers": len(self.given["tuned"])}
        for who, given in self.given.items() if found["answers"] else ():
            found[f"{who}_stop_rate"] = sum(each.stopped for each in given) / len(given)
            found[f"{who}_empty_answers"] = sum(not each.text for each in given)
        return found


def _compared(asked: _Asked, base: Answer, tuned: Answer) -> ComparedAnswer:
    facts = asked.question.key_facts
    said = (base.text, tuned.text)
    hits = [has_key_fact(text, facts) for text in said] if facts else [None, None]
    expected = joined(facts) or asked.reference
    return ComparedAnswer(asked.question.question, expected, *said, *hits)


def evaluate(
    adapter: Path, dataset: Path, questions: list[Question], max_new_tokens: int, report: Report
) -> Evaluation:
    """Compares the base and the tuned model."""
    report("loading the base model and the adapter")
    bench = _Bench(adapter, report)
    manager = PromptTemplateManager(bench.tokenizer)
    found = Evaluation(_losses(bench, dataset / "eval.parquet", report))
    found.questions = bench.compare(_questions(questions, manager), "questions", max_new_tokens)
    asked = _held_out(dataset / "eval.parquet", bench.tokenizer)
    found.held_out = bench.compare(asked, "held-out rows", max_new_tokens)
    if general := _general(manager, report):
        found.general = bench.compare(general, "general questions", max_new_tokens)
        text = general_text()
        found.metrics |= bench.both(
            lambda: text_perplexity(bench.model, bench.tokenizer, text), "general_perplexity"
        )
    found.metrics |= _hits("questions", "key_facts", found.questions)
    found.metrics |= _hits("general_questions", "general_answers", found.general)
    found.metrics |= _references(found.held_out)
    found.metrics |= bench.ends()
    return found


def _losses(bench: _Bench, path: Path, report: Report) -> dict[str, float]:
    rows = count_rows(path)
    if not rows:
        return {}
    report(f"loss on {rows} held-out rows")
    found = bench.both(
        lambda: mean_loss(bench.model, tokenized_rows(path, bench.tokenizer)), "eval_loss"
    )
    for who in ("base", "tuned"):
        found[f"{who}_perplexity"] = perplexity(found[f"{who}_eval_loss"])
    return {"eval_rows": rows, **found}


def _questions(questions: list[Question], manager: PromptTemplateManager) -> list[_Asked]:
    """The corpus's questions. Raises UserError if the template cannot render one."""
    asked = []
    for item in questions:
        try:
            prompt = manager.question(item.question)
        except CannotRenderError as error:
            said = f"{QUESTIONS_FILE}: {item.question!r} cannot be asked: {error}"
            raise UserError(said) from error
        asked.append(_Asked(item, prompt))
    return asked


def _general(manager: PromptTemplateManager, report: Report) -> list[_Asked]:
    """The general questions; none if the template cannot render them, as one may that has other fields."""
    try:
        return [_Asked(item, manager.question(item.question)) for item in general_questions()]
    except CannotRenderError as error:
        report(f"no general questions: the template cannot render them ({error})")
        return []


def _held_out(path: Path, tokenizer: "PreTrainedTokenizerBase") -> list[_Asked]:
    """Held-out rows as they are asked, with their answers as references."""
    asked = []
    for prompt, answer in _rows_with_questions(path):
        ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
        reference = str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
        asked.append(_Asked(Question(prompt), prompt, reference))
    return asked


def _rows_with_questions(path: Path) -> Iterator[tuple[str, str]]:
    """Prompt and answer of the first held-out rows that have a question; their order is that of digests,
    so it is no choice.
    """
    rows = (row for row in read_table(path, Example) if row.kind != "text")
    for row in islice(rows, HELD_OUT):
        yield (
            prompt_of(row.segments),
            next(each["text"] for each in row.segments if each["trained"]),
        )


def _hits(of: str, name: str, found: list[ComparedAnswer]) -> dict[str, float]:
    if not found:
        return {}
    return {
        of: len(found),
        f"base_{name}": sum(row.base_hit or False for row in found),
        f"tuned_{name}": sum(row.tuned_hit or False for row in found),
    }


def _references(found: list[ComparedAnswer]) -> dict[str, float]:
    """Exact match and token F1 of the answers to held-out rows, as means over them."""
    metrics: dict[str, float] = {"held_out_answers": len(found)} if found else {}
    for name, score in (("exact_match", exact_match), ("token_f1", token_f1)) if found else ():
        base = [score(row.base_answer, row.key_fact or "") for row in found]
        tuned = [score(row.tuned_answer, row.key_fact or "") for row in found]
        metrics |= {f"base_{name}": sum(base) / len(base), f"tuned_{name}": sum(tuned) / len(tuned)}
    return metrics


def to_judge(job: Job) -> list[ComparedAnswer]:
    """What the judge will be asked about: the questions and what is known of each, without answers."""
    questions = read_questions(job.source / QUESTIONS_FILE)
    held_out = _rows_with_questions(job.inputs["formatted_dataset"] / "eval.parquet")
    return [
        *(ComparedAnswer(q.question, joined(q.key_facts), "", "", False, False) for q in questions),
        *(ComparedAnswer(prompt, answer, "", "", None, None) for prompt, answer in held_out),
    ]


def prepare(job: Job, report: Report) -> None:
    """Makes sure, before the models run, that their answers can be judged if there is a judge."""
    if job.section(EvaluationConfig).judge:
        prepare_judge(job, to_judge(job), report)


def finish(job: Job, outcome: Outcome, report: Report) -> Outcome:
    """Has the answers judged if there is a judge: `judged.parquet`, and counts by verdict."""
    return judge_answers(job, outcome, report)


def build(job: Job, report: Report) -> Outcome:
    """Builds `evaluation`: `metrics.json`, and the answers to the questions of the corpus, to held-out rows
    and to general questions.
    """
    found = evaluate(
        job.inputs["adapter"],
        job.inputs["formatted_dataset"],
        read_questions(job.source / QUESTIONS_FILE),
        job.section(EvaluationConfig).max_new_tokens,
        report,
    )
    write_metrics(job.output, found.metrics)
    for path, rows in (
        (ANSWERS, found.questions or found.held_out),
        (HELD_OUT_ANSWERS, found.held_out),
        (GENERAL_ANSWERS, found.general),
    ):
        write_table(job.output / path, ComparedAnswer, rows)
    return Outcome(
        counts=found.metrics,
        checks=verdicts(found.metrics),
        tools=versions("torch", "transformers", "peft"),
    )
