"""Key facts: a hit is what a person would call one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets.stages.key_facts import has_key_fact


@pytest.mark.parametrize(
    ("answer", "fact"),
    [
        ("It costs 8  Pounds.", "8 pounds"),
        ("8 pounds", "8 pounds"),
        ("Call 52.", "52"),
        ("There are 52, not 53.", "52"),
        ("(52)", "52"),
        ("at 6:12 sharp", "6:12"),
        ("It is 1,000 m away", "1000"),
        ("It is 1000 m away", "1,000"),
        ("It is 10\u202f000 m away", "10,000"),
        ("three buttons", "button"),
        ("the keeper's lamp", "keeper"),
        ("the keeper’s lamp", "keeper's lamp"),
        ("Run `help` first.", "help"),
        ("Call for help.", "help"),
        ("version 1.10", "1.10"),
        ("-40 degrees", "-40"),
        ("Straße", "STRASSE"),
        ("É", "e\u0301"),
        ("C++ it is", "C++"),
        ("use --force here", "--force"),
        ("10%", "10%"),
        ("東京です", "東京"),
    ],
)
def test_a_hit(answer: str, fact: str) -> None:
    assert has_key_fact(answer, fact)


@pytest.mark.parametrize(
    ("answer", "fact"),
    [
        ("It costs 18 pounds.", "8 pounds"),
        ("eight pounds", "8 pounds"),
        ("520 metres", "52"),
        ("1.52", "52"),
        ("52.5", "52"),
        ("1.10", "10"),
        ("More than 100", "10"),
        ("10,000 people", "10"),
        ("at 10:30", "10"),
        ("-40 degrees", "40"),
        ("50%", "50"),
        ("I am happy to help.", "help"),
        ("How can I help you today?", "help"),
        ("Hope this helps!", "help"),
        ("cats", "cat"),
        ("concatenate", "cat"),
        ("It was never said.", ""),
        ("A helper", "help"),
        ("the northernmost", "north"),
    ],
)
def test_no_hit(answer: str, fact: str) -> None:
    assert not has_key_fact(answer, fact)


def test_any_accepted_spelling_counts() -> None:
    assert has_key_fact("After two weeks.", ["2 weeks", "two weeks"])
    assert has_key_fact("After 2 weeks.", ["2 weeks", "two weeks"])
    assert not has_key_fact("After 12 weeks.", ["2 weeks", "two weeks"])


@given(number=st.integers(0, 10**6), other=st.integers(0, 10**6), unit=st.sampled_from(["", " m"]))
def test_a_number_is_only_itself(number: int, other: int, unit: str) -> None:
    answer = f"It is {number:,}{unit}, they say."
    assert has_key_fact(answer, f"{other}{unit}") is (number == other)


@given(
    st.text(min_size=1, max_size=60).filter(lambda text: text[0].isalnum() and text[-1].isalnum())
)
def test_an_answer_contains_what_it_says(text: str) -> None:
    assert has_key_fact(f"It is: {text} .", text)
