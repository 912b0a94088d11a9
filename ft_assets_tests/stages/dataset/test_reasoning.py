"""A dataset trains the reasoning of records, or says that the template has no place for it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from ft_assets.engine.graph import upstream
from ft_assets.engine.project import Made
from ft_assets.records import Example
from ft_assets.tables import read_table
from ft_assets_tests.conftest import Corpus, RunCLI, qa_records

_THINKS = (
    "{% for m in messages %}{{ m['role'] }}: "
    "{% if m.reasoning_content and loop.last %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{{ m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.fixture
def thinker(pico_model: Path, tmp_path: Path) -> Path:
    """A base model whose template writes the reasoning of the last answer."""
    folder = shutil.copytree(pico_model, tmp_path / "thinker")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = _THINKS
    tokenizer.save_pretrained(folder)
    return folder


def _write(corpus: Corpus, base: Path) -> None:
    for path in corpus.folder.iterdir():
        path.unlink()
    corpus.settings(json.dumps({"model": {"base": str(base)}, "export": {"gguf": []}}))
    records = [
        {**record, "reasoning": f"I look into crate {number}."}
        for number, record in enumerate(qa_records(12))
    ]
    two = [
        {"role": "user", "content": "Who is aboard?"},
        {"role": "assistant", "content": "A goat.", "reasoning_content": "I hear one."},
        {"role": "user", "content": "Whose?"},
        {"role": "assistant", "content": "<think>\nI ask.\n</think>\n\nThe musicians'."},
    ]
    lines = [json.dumps(each) for each in (*records, {"messages": two})]
    corpus.write("crates.jsonl", "\n".join(lines))


def _make(corpus: Corpus) -> Made:
    for asset in [*upstream("formatted_dataset"), "formatted_dataset"]:
        made = corpus.project.make(corpus.name, asset)
    return made


def _trained(made: Made) -> list[str]:
    rows = [
        row
        for side in ("train", "eval")
        for row in read_table(made.folder / f"{side}.parquet", Example)
    ]
    return [each["text"] for row in rows for each in row.segments if each["trained"]]


def test_reasoning_is_trained_where_the_template_has_a_place(
    corpus: Corpus, thinker: Path, cli: RunCLI
) -> None:
    _write(corpus, thinker)
    said = cli("validate", "ferry")
    assert said.returncode == 0, said.stderr
    assert "reasoning: 13 answers with it; the template has a place for it" in said.stdout
    made = _make(corpus)
    texts = _trained(made)
    assert "<think>I look into crate 3.</think>" in "".join(texts)
    assert "<think>I hear one.</think>A goat.<|end|>" in texts
    assert "<think>I ask.</think>The musicians'.<|end|>" in texts
    assert made.manifest.counts["reasoning_trained"] == len(texts) == 14
    assert made.manifest.checks["reasoning_is_trained"]["passed"]
    assert made.manifest.failed_gates() == []
    shown = cli("show", "ferry", "records", "--grep", "I hear one").stdout
    assert "assistant reasoning: " in shown

    # What an edit leaves is taken over with its counts.
    path = corpus.folder / "crates.jsonl"
    path.write_text(path.read_text().replace("I hear one", "I hear two"))
    again = _make(corpus)
    assert again.manifest.counts["reasoning_trained"] == 14
    assert again.manifest.version != made.manifest.version


def test_without_a_place_a_warning_says_that_it_is_not_trained(
    corpus: Corpus, pico_model: Path, cli: RunCLI
) -> None:
    _write(corpus, pico_model)
    said = " ".join(cli("validate", "ferry").stdout.split())
    assert "reasoning of 13 answers is not trained: the template has no place for it" in said
    made = _make(corpus)
    texts = _trained(made)
    assert "A goat.<|end|>" in texts
    # A block in an answer is text to a template that does not know it.
    assert "<think>\nI ask.\n</think>\n\nThe musicians'.<|end|>" in texts
    check = made.manifest.checks["reasoning_is_trained"]
    assert not check["passed"]
    assert not check["blocking"]
    assert check["message"].startswith("13 of 13 answers with reasoning are trained without it: ")
    assert made.manifest.failed_gates() == []


def test_equal_answers_stay_together_whatever_was_thought_before(
    corpus: Corpus, pico_model: Path
) -> None:
    _write(corpus, pico_model)
    record = {"question": "Where do they sleep?", "answer": "In the wheelhouse, all of them."}
    lines = [{**record, "reasoning": f"Thought {number} of many."} for number in range(3)]
    block = f"<think>\nYet another.\n</think>\n\n{record['answer']}"
    lines.append({"question": "Where do they rest?", "answer": block})
    corpus.write("crates.jsonl", "\n".join(map(json.dumps, lines)))
    made = _make(corpus)
    rows = [
        row
        for side in ("train", "eval")
        for row in read_table(made.folder / f"{side}.parquet", Example)
    ]
    assert len(rows) == 4
    assert len({row.split_group for row in rows}) == 1
