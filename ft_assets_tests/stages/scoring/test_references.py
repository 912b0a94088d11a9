"""Exact match and token F1 against a reference answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets.stages.scoring.references import exact_match, token_f1

WORDS = st.lists(st.sampled_from(["red", "Green", "blue", "52", "élan"]), max_size=6)


@given(WORDS, WORDS)
def test_f1_is_symmetric_and_within_its_bounds(first: list[str], second: list[str]) -> None:
    said, wanted = " ".join(first), " ".join(second)
    score = token_f1(said, wanted)
    assert 0 <= score <= 1
    assert score == token_f1(wanted, said)
    assert (score == 1) == (sorted(said.casefold().split()) == sorted(wanted.casefold().split()))


@given(WORDS)
def test_case_and_punctuation_do_not_count(words: list[str]) -> None:
    assert exact_match(", ".join(words).upper() + ".", " ".join(words))


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("It is 52 metres tall.", "52 metres", 4 / 7),
        ("no idea", "52 metres", 0.0),
        ("", "52 metres", 0.0),
        ("", "", 1.0),
        ("灯台は高い", "灯台は低い", 0.8),
        ("520", "52", 0.0),
        ("I look.\n</think>\n\n52 metres", "<think>\nIt says so.\n</think>\n\n52 metres", 1.0),
        ("52 metres, I think", "\n</think>\n\n52 metres", 2 / 3),
    ],
)
def test_f1_of(answer: str, reference: str, score: float) -> None:
    assert token_f1(answer, reference) == pytest.approx(score)


def test_the_order_of_words_counts_for_an_exact_match_only() -> None:
    assert not exact_match("tall very", "very tall")
    assert token_f1("tall very", "very tall") == 1
