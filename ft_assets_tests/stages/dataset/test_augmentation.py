"""Variants change only the question's wording."""

import os
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets.config import AugmentConfig
from ft_assets.records import InstructionRecord, Message
from ft_assets.stages.dataset.augmentation import DataAugmenter

ALL = AugmentConfig(
    instruction_variations=8, paraphrases=2, case_variations=2, normalize_whitespace="all"
)
NONE = AugmentConfig()

CONVERSATIONS = st.lists(
    st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=3
).map(
    lambda turns: [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
)
SETTINGS = st.fixed_dictionaries(
    {
        "instruction_variations": st.integers(0, 8),
        "paraphrases": st.integers(0, 2),
        "normalize_whitespace": st.sampled_from([None, True, False, "prose", "all"]),
        "case_variations": st.integers(0, 2),
    }
)


def _turn(question: str, answer: str = "Biscuit.") -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _made(question: str, settings: dict[str, int], key: str = "k", seed: int = 17) -> list[str]:
    augmenter = DataAugmenter(NONE.model_copy(update=settings), seed)
    return [made[0]["content"] for made in augmenter.variants(_turn(question), key)]


def _questions(question: str, **settings: int) -> list[str]:
    return _made(question, settings)


@given(messages=CONVERSATIONS, settings=SETTINGS, key=st.text(), seed=st.integers(0, 9))
def test_only_the_last_question_changes_and_no_two_are_equal(
    messages: list[Message], settings: dict[str, Any], key: str, seed: int
) -> None:
    augmenter = DataAugmenter(AugmentConfig(**settings), seed)
    made = list(augmenter.variants(messages, key))
    own = made[0]
    assert [message["content"] for message in own] == [
        augmenter.normalize(message["content"]) for message in messages
    ]
    kinds = ("instruction_variations", "paraphrases", "case_variations")
    assert len(made) <= 1 + sum(settings[kind] for kind in kinds)
    questions = [variant[-2]["content"] for variant in made]
    assert len(set(questions)) == len(questions)
    for variant in made:
        assert variant[:-2] == own[:-2]
        assert variant[-1] == own[-1]
    assert made == list(augmenter.variants(messages, key))


@given(text=st.text())
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    augmenter = DataAugmenter(ALL)
    assert augmenter.normalize(augmenter.normalize(text)) == augmenter.normalize(text)
    assert augmenter.normalize_prose(augmenter.normalize_prose(text)) == (
        augmenter.normalize_prose(text)
    )
    for mode in (None, False, True, "prose"):
        assert DataAugmenter(ALL.model_copy(update={"normalize_whitespace": mode})).normalize(
            text
        ) == (text)
    assert DataAugmenter(NONE).normalize_prose(text) == text


def test_normalising_keeps_what_indents_a_line() -> None:
    code = "def f(x):\n    if  x:\n        return\t1   \n\n\n\n    return 2\n"
    assert DataAugmenter(ALL).normalize(code) == (
        "def f(x):\n    if x:\n        return 1\n\n    return 2"
    )
    assert DataAugmenter(ALL).normalize("    a = 1\n    b = 2") == "a = 1\nb = 2"


def test_normalising_prose_keeps_code_and_tables() -> None:
    prose = DataAugmenter(AugmentConfig(normalize_whitespace="prose"))
    table = "| port | height |\n| Ness |    3.1 |\nport\theight\nNess\t 3.1\n"
    code = "```python\nx      = 1\nname = 'ab        '\n\n\n\ny = 2\n```\n"
    text = f"The  tide   is low.  \nSo  it goes.\n\n\n\n{table}\n{code}    indented   code\nEnd  of it."
    assert prose.normalize_prose(text) == (
        f"The tide is low.\nSo it goes.\n\n{table}\n{code}    indented   code\nEnd of it."
    )
    half = "half  of it\n```\nthe  rest is prose or code"
    assert prose.normalize_prose(half) == half


@pytest.mark.parametrize("mode", [None, False, True, "prose"])
def test_white_space_of_messages_is_content(mode: Any) -> None:
    augmenter = DataAugmenter(AugmentConfig(normalize_whitespace=mode))
    messages: list[Message] = [
        {"role": "system", "content": "Two  spaces.\n"},
        {"role": "user", "content": " Go on:\tdef f(x):", "name": "a"},
        {
            "role": "assistant",
            "content": "    y =  x + 1 \n\n\n\n    return\u00a0y  ",
            "trained": False,
        },
    ]
    assert list(augmenter.variants(messages, "k")) == [messages]
    record = InstructionRecord("r", "t", 1, messages, " A\t|  B ")
    assert augmenter.augment_instruction(record) == record


def test_nothing_is_varied_by_default() -> None:
    assert _questions("Who  sleeps there? ") == ["Who  sleeps there? "]


@pytest.mark.parametrize("kind", ["instruction_variations", "paraphrases", "case_variations"])
def test_asking_for_more_keeps_the_first_ones(kind: str) -> None:
    question = "Who is the captain of the ferry?"
    most: int = getattr(ALL, kind)
    made = [_made(question, {kind: count}) for count in range(most + 1)]
    assert [len(questions) for questions in made] == list(range(1, most + 2))
    for fewer, more in pairwise(made):
        assert more[: len(fewer)] == fewer


def test_the_draw_hangs_on_seed_and_key() -> None:
    draws = {
        tuple(_made("Who?", {"instruction_variations": 3}, key, seed))
        for key in "abcdef"
        for seed in (1, 2)
    }
    assert len(draws) > 6


def test_a_question_and_a_task_are_framed_each_in_its_way() -> None:
    for made in _questions("Who {sleeps}?", instruction_variations=8)[1:]:
        assert "Who {sleeps}?" in made
        assert "question" in made.lower() or "answer" in made.lower()
    for made in _questions("Count the pears.", instruction_variations=8)[1:]:
        assert "Count the pears." in made
        assert "question" not in made.lower()


@pytest.mark.parametrize(
    ("question", "one_of"),
    [
        ("What is in crate 3?", "What's in crate 3?"),
        ("Why does it sing?", "For what reason does it sing?"),
        ("How many pears are there?", "What number of pears are there?"),
        ("Who is the captain?", "Which person is the captain?"),
        ("Please explain the tides.", "Give an explanation of the tides."),
        ("Summarise the log.", "Give a summary of the log."),
    ],
)
def test_paraphrases(question: str, one_of: str) -> None:
    assert one_of in _questions(question, paraphrases=2)


def test_what_no_rule_knows_has_fewer_variants() -> None:
    assert _questions("Où est le café ?", paraphrases=2) == ["Où est le café ?"]
    assert _questions("東京?", case_variations=2) == ["東京?"]
    assert _questions("who?", case_variations=2) == ["who?", "Who?"]


def test_a_record_and_its_variants() -> None:
    messages: list[Message] = [*_turn("Who?"), *_turn("Add  these.", "5")]
    record = InstructionRecord("id", "text", 1, messages, "2  and 3")
    made = list(DataAugmenter(AugmentConfig(instruction_variations=2), 3).augment_dataset(record))
    assert made[0] == DataAugmenter(NONE).augment_instruction(record)
    assert len(made) == 3
    for variant in made:
        assert (variant.record_id, variant.input) == ("id", "2  and 3")
        assert variant.messages[0]["content"] == "Who?"
        assert "Add  these." in variant.messages[2]["content"]


def test_the_same_on_every_run() -> None:
    code = (
        "from ft_assets_tests.stages.dataset.test_augmentation import ALL, _turn, DataAugmenter\n"
        "print(list(DataAugmenter(ALL, 17).variants(_turn('Who is the captain?'), 'key')))"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, zone in (("0", "UTC"), ("1", "Asia/Tokyo"))
    }
    assert len(runs) == 1
