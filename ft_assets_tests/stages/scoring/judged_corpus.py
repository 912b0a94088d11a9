"""A corpus whose evaluation is judged by a server on loopback; what the models say is made up."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ft_assets.engine.project import Project
from ft_assets.manifest import Manifest
from ft_assets.records import ComparedAnswer, JudgedAnswer
from ft_assets.stages.job import Job, Outcome
from ft_assets.stages.qa.ledger.ledger import Ledger
from ft_assets.stages.scoring.files import (
    ANSWERS,
    GENERAL_ANSWERS,
    HELD_OUT_ANSWERS,
    JUDGED,
    write_metrics,
)
from ft_assets.stages.scoring.verdicts import verdicts
from ft_assets.tables import read_table, write_table
from ft_assets_tests.conftest import Corpus, qa_records
from ft_assets_tests.stages.qa.claude_server import ClaudeServer, Remote

JUDGE = "claude-haiku-5-5"
UP = ("raw_documents", "chunks", "qa_pairs", "formatted_dataset")
Answer = Callable[[int], str]
"""What a model says to the question with this number."""


def base_says(number: int) -> str:
    """What the base model answers: the same whatever was trained."""
    return f"There may be {number} pears, I think."


def tuned_says(number: int) -> str:
    """What the tuned model answers: the truth to every second question, else what the base says."""
    return f"It holds {number * 7} plums." if number % 2 else base_says(number)


def judged_corpus(project: Project, base: Path, server: ClaudeServer | Remote) -> Corpus:
    """A corpus with six questions and its data half built; its judge may spend a dollar."""
    corpus = Corpus(project, "ferry")
    corpus.write("crates.json", json.dumps(qa_records()))
    corpus.write("ferry.txt", "The ferry leaves the north quay at six. " * 20)
    lines = [
        json.dumps({"question": f"What is in box {n}?", "key_fact": [f"{n * 7} plums", "plums"]})
        for n in range(6)
    ]
    corpus.write("questions.jsonl", "\n".join(lines))
    use_judge(corpus, base, server)
    for asset in UP:
        project.make("ferry", asset)
    train(corpus, "first")
    return corpus


def use_judge(
    corpus: Corpus, base: Path, server: ClaudeServer | Remote, *, qa: Any = None, **settings: Any
) -> None:
    """Sets the judge's settings; None removes one."""
    evaluation = {"judge": JUDGE, "judge_max_usd": 1.0, **settings}
    said = {key: value for key, value in evaluation.items() if value is not None}
    at = {"base_url": server.url, **(qa or {})}
    files: dict[str, list[str]] = {"gguf": []}
    said_of = {"model": {"base": str(base)}, "evaluation": said, "qa": at, "export": files}
    corpus.settings(json.dumps(said_of))


def train(corpus: Corpus, says: str) -> None:
    """Stands in for a training: an adapter with other content is another adapter."""

    def run(job: Job) -> Outcome:
        (job.output / "adapter").write_text(says)
        return Outcome(tools={"base_revision": "1"})

    corpus.project.make(corpus.name, "adapter", run, force=True)


def evaluate(corpus: Corpus, tuned: Answer = tuned_says, **options: Any) -> Manifest:
    """Builds the evaluation; the models' answers are made up, all else is real."""

    def run(job: Job) -> Outcome:
        questions = [_compared(n, tuned) for n in range(6)]
        held_out = [ComparedAnswer("What is in crate 3?", "21 pears.", "7.", "21.", None, None)]
        write_table(job.output / ANSWERS, ComparedAnswer, questions)
        write_table(job.output / HELD_OUT_ANSWERS, ComparedAnswer, held_out)
        general = [ComparedAnswer("2 + 2?", "4", "4", "5", True, False)]
        write_table(job.output / GENERAL_ANSWERS, ComparedAnswer, general)
        metrics = {"questions": 6.0, "base_key_facts": 0.0, "tuned_key_facts": 3.0}
        write_metrics(job.output, metrics)
        return Outcome(counts=dict(metrics), checks=verdicts(metrics))

    return corpus.project.make(
        corpus.name, "evaluation", options.pop("run", run), **options
    ).manifest


def _compared(number: int, tuned: Answer) -> ComparedAnswer:
    said = (base_says(number), tuned(number))
    hits = ["plums" in text for text in said]
    facts = f"{number * 7} plums | plums"
    return ComparedAnswer(f"What is in box {number}?", facts, *said, *hits)


def judged_answers(corpus: Corpus) -> list[JudgedAnswer]:
    """The verdicts that are published."""
    storage = corpus.project.storage
    version = storage.current_version(corpus.name, "evaluation")
    folder = storage.folder(corpus.name, "evaluation", version or "")
    return list(read_table(folder / JUDGED, JudgedAnswer))


def ledger_of(corpus: Corpus) -> Ledger:
    """The judge's ledger."""
    return Ledger(corpus.project.storage.keep(corpus.name, "evaluation"))


def honest_judge(prompt: str, schema: dict[str, Any], count: int) -> Any:
    """Says right where the answer has what is known, partly where it names another number of it."""
    mark = re.findall(r"</data-([0-9a-f]{12})>", prompt)[-1]
    fenced = prompt.partition(f"<data-{mark}>\n")[2].partition(f"\n</data-{mark}>")[0]
    asked, said = map(json.loads, fenced.split("\n"))
    known = [*asked.get("accepted", ()), *asked.get("reference", "").split()]
    right = any(each in said["answer"] for each in known)
    partly = "pears" in said["answer"]
    verdict = "right" if right else "partly" if partly else "wrong"
    return {"judgements": [{"remark": f"It says {said['answer']}", "verdict": verdict}] * count}
