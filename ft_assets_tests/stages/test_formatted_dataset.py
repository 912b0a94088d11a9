"""The dataset: rows are rendered once, split so that related rows stay together, and counted."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets.engine.graph import upstream
from ft_assets.engine.project import Made
from ft_assets.errors import StageError, UserError
from ft_assets.records import DroppedRow, Example, prompt_of
from ft_assets.stages.dataset.split import split_groups
from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.stages.templates.tokenization import IGNORED, tokenized_rows
from ft_assets.tables import read_table
from ft_assets_tests.conftest import PROSE, Corpus, qa_records, sources

GROUPS = st.sets(st.text(min_size=1, max_size=8), min_size=2, max_size=60)


@given(groups=GROUPS, fraction=st.floats(0.01, 0.5), seed=st.integers(0, 99))
def test_both_sides_of_the_split_have_something(
    groups: set[str], fraction: float, seed: int
) -> None:
    held_out = split_groups(dict.fromkeys(groups, 1), fraction, seed)
    assert held_out
    assert held_out < groups


@given(
    sizes=st.dictionaries(st.text(min_size=1, max_size=8), st.integers(1, 9), min_size=5),
    seed=st.integers(0, 99),
)
def test_the_share_of_rows_is_met_whatever_the_sizes_of_groups(
    sizes: dict[str, int], seed: int
) -> None:
    rows = sum(sizes[group] for group in split_groups(sizes, 0.3, seed))
    assert abs(rows - 0.3 * sum(sizes.values())) <= max(sizes.values())


@given(groups=GROUPS, seed=st.integers(0, 99))
def test_a_new_group_moves_at_most_the_stand_in(groups: set[str], seed: int) -> None:
    before, after = (
        split_groups(dict.fromkeys(some, 1), 0.3, seed) for some in (groups, {*groups, "new"})
    )
    assert len((before ^ after) - {"new"}) <= 1


def test_nothing_is_held_out_where_none_is_wanted_or_there_is_one_group() -> None:
    assert split_groups({"a": 1, "b": 1}, 0.0, 1) == set()
    assert split_groups({"a": 1}, 0.5, 1) == set()


def _make(corpus: Corpus) -> tuple[Made, Path]:
    for asset in [*upstream("formatted_dataset"), "formatted_dataset"]:
        made = corpus.project.make(corpus.name, asset)
    folder = corpus.project.storage.folder(corpus.name, "formatted_dataset", made.manifest.version)
    return made, folder


def _rows(folder: Path, split: str) -> list[Example]:
    return list(read_table(folder / f"{split}.parquet", Example))


def _answer(row: Example) -> str:
    return row.segments[-1]["text"]


def test_equal_answers_and_whole_documents_stay_on_one_side(corpus: Corpus) -> None:
    records = [
        {"question": f"{wording} crate {n}?", "answer": f"Pears, {n}."}
        for n in range(30)
        for wording in ("What is in", "Tell me of")
    ]
    corpus.write("crates.json", json.dumps(records))
    corpus.settings("data: {eval_fraction: 0.3}\nlangchain: {chunk_size: 60, chunk_overlap: 10}")
    _, folder = _make(corpus)
    train, held_out = _rows(folder, "train"), _rows(folder, "eval")
    assert not {_answer(row) for row in train} & {_answer(row) for row in held_out}
    assert not {row.split_group for row in train} & {row.split_group for row in held_out}
    assert len(train) + len(held_out) == 60 + sum(row.kind == "text" for row in train + held_out)
    for row in train + held_out:
        assert row.text_id
        assert row.origin_id


def test_counts_add_up_and_documents_carry_theirs(corpus: Corpus) -> None:
    made, folder = _make(corpus)
    counts = made.manifest.counts
    rows = _rows(folder, "train")
    assert counts["train_rows"] == len(rows)
    assert counts["train_tokens"] == sum(row.tokens for row in rows)
    found = sources(corpus.project, made.manifest)
    assert sum(line.train_rows or 0 for line in found) == len(rows)


def test_rows_too_long_are_cut_or_dropped_and_counted(corpus: Corpus) -> None:
    corpus.write("ferry.txt", PROSE * 4)
    corpus.settings("training: {max_length: 32}\ndata: {system_prompt: ''}")
    made, folder = _make(corpus)
    assert made.manifest.counts["rows_cut_by_max_length"] > 0
    assert not made.manifest.checks["rows_fit_max_length"]["passed"]
    assert max(row.tokens for row in _rows(folder, "train")) <= 32


@pytest.mark.parametrize(("count", "is_enough"), [(4, False), (12, True)])
def test_few_rows_are_trained_with_a_warning(corpus: Corpus, count: int, is_enough: bool) -> None:
    (corpus.folder / "ferry.txt").unlink()
    corpus.write("crates.json", json.dumps(qa_records(count)))
    corpus.settings("data: {eval_fraction: 0.0}")
    made, _ = _make(corpus)
    verdict = made.manifest.checks["rows_are_enough"]
    assert (verdict["passed"], verdict["blocking"]) == (is_enough, False)
    assert verdict["message"].startswith(f"{count} training rows")
    assert ("50 to 100 are a usual beginning" in verdict["message"]) is not is_enough


def test_a_template_that_writes_the_date_is_given_one_day_and_it_is_said(
    corpus: Corpus, pico_model: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(pico_model, tmp_path / "dated")
    template = base / "chat_template.jinja"
    template.write_text("{{ strftime_now('%d %B %Y') }} " + template.read_text())
    corpus.settings(f"model: {{base: '{base}'}}")
    said: list[str] = []
    for asset in upstream("formatted_dataset"):
        corpus.project.make(corpus.name, asset)
    made = corpus.project.make(corpus.name, "formatted_dataset", report=said.append)
    assert "the chat template writes the date; in all rows and exports it is 26 Jul 2024" in said
    rows = [row for row in _rows(made.folder, "train") if row.kind == "record"]
    assert all(row.segments[0]["text"].startswith("26 July 2024 ") for row in rows)


def test_no_row_left_fails_and_says_why(corpus: Corpus) -> None:
    (corpus.folder / "ferry.txt").unlink()
    corpus.settings("training: {max_length: 8}")
    with pytest.raises(StageError, match=r"24 rows: its prompt alone fills training\.max_length"):
        _make(corpus)


def test_exports_on_request(corpus: Corpus) -> None:
    corpus.settings("data: {export_formats: [jsonl, txt], template: alpaca}")
    _, folder = _make(corpus)
    lines = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    rows = _rows(folder, "train")
    exported = [[(each["text"], each["label"]) for each in line["segments"]] for line in lines]
    assert exported == [[(each["text"], each["trained"]) for each in row.segments] for row in rows]
    assert "".join(each["text"] for each in rows[0].segments) in (folder / "train.txt").read_text()


def test_a_template_of_ones_own(corpus: Corpus) -> None:
    corpus.write("house.jinja", "Guest: {{ instruction }}\nHost: {{ output }}")
    corpus.settings("data: {template: house.jinja}")
    _made, folder = _make(corpus)
    asked = [row for row in _rows(folder, "train") if row.kind == "record"]
    assert prompt_of(asked[0].segments).startswith("Guest: What is in crate")
    corpus.write("house.jinja", "Visitor: {{ instruction }}\nHost: {{ output }}")
    state = corpus.project.status("ferry")["formatted_dataset"]
    assert state.state == "stale"
    assert any("data.template.text" in cause for cause in state.causes)
    corpus.write("house.jinja", "Visitor: {{ instruction }}")
    with pytest.raises(UserError, match=r"house\.jinja: it lacks the field \{\{ output \}\}"):
        _make(corpus)


def test_the_same_inputs_give_the_same_bytes(corpus: Corpus) -> None:
    made, _ = _make(corpus)
    first = {name: item["sha256"] for name, item in made.manifest.files.items()}
    again = corpus.project.make("ferry", "formatted_dataset", force=True)
    assert not again.reused
    assert {name: item["sha256"] for name, item in again.manifest.files.items()} == first


def _conversation(answers: int) -> dict[str, object]:
    turns = []
    for n in range(answers):
        turns.append({"role": "user", "content": f"What is in crate {n}?"})
        turns.append({"role": "assistant", "content": f"Crate {n} holds {n * 7} pears."})
    return {"messages": turns}


def test_every_answer_of_a_conversation_is_trained_once_and_counted(corpus: Corpus) -> None:
    corpus.write("crates.json", json.dumps([_conversation(4)]))
    corpus.settings("data: {eval_fraction: 0, near_duplicates: 1.0}")
    made, folder = _make(corpus)
    [row] = [row for row in _rows(folder, "train") if len(row.segments) == 8]
    trained = [each["text"] for each in row.segments if each["trained"]]
    assert trained == [f"Crate {n} holds {n * 7} pears.<|im_end|>" for n in range(4)]
    assert made.manifest.counts["train_trained_tokens"] == sum(
        sum(label != IGNORED for label in each["labels"])
        for each in tokenized_rows(folder / "train.parquet", tokenizer_of(folder / "tokenizer"))
    )
    corpus.settings("data: {eval_fraction: 0, near_duplicates: 1.0, train_on: last}")
    _, folder = _make(corpus)
    [row] = [row for row in _rows(folder, "train") if "crate 3" in prompt_of(row.segments)]
    assert [each["text"] for each in row.segments if each["trained"]] == trained[-1:]


@pytest.mark.parametrize("template", ["alpaca", "chatml"])
def test_a_conversation_cut_by_max_length_keeps_its_first_answers(
    corpus: Corpus, template: str
) -> None:
    corpus.write("crates.json", json.dumps([_conversation(30)]))
    corpus.settings(
        f"data: {{eval_fraction: 0, template: {template}, system_prompt: ''}}\n"
        "training: {max_length: 128}"
    )
    made, folder = _make(corpus)
    dropped = list(read_table(folder / "dropped.parquet", DroppedRow))
    if template == "alpaca":
        assert any("room for one question" in row.reason for row in dropped)
        return
    assert not any("prompt alone" in row.reason for row in dropped)
    [row] = [row for row in _rows(folder, "train") if row.cut_tokens]
    assert row.tokens == 128
    assert 30 < row.trained_tokens < 128
    assert made.manifest.checks["rows_add_up"]["passed"]


def test_conversations_that_share_an_answer_stay_on_one_side(corpus: Corpus) -> None:
    shared = "The shared answer of group {} is rather long, it has many words."
    records = [
        {
            "messages": [
                {"role": "user", "content": f"Ask {n} first?"},
                {"role": "assistant", "content": shared.format(n // 4)},
                {"role": "user", "content": f"And what of {n}?"},
                {"role": "assistant", "content": f"Of {n}: {'ebb ' * (n % 7)}{n * n}."},
                {"role": "user", "content": "Thanks."},
                {"role": "assistant", "content": "You are welcome."},
            ]
        }
        for n in range(60)
    ]
    corpus.write("talks.json", json.dumps(records))
    corpus.settings("data: {eval_fraction: 0.3, near_duplicates: 1.0, eval_overlap: keep}")
    _, folder = _make(corpus)
    answers = {
        side: {
            each["text"]
            for row in _rows(folder, side)
            for each in row.segments
            if each["trained"] and "shared answer" in each["text"]
        }
        for side in ("train", "eval")
    }
    assert answers["eval"]
    assert not answers["train"] & answers["eval"]
