"""Texts are compared by content: near-duplicates and leaks are found, other texts are kept."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets.stages.duplicates import (
    LEAK_SHARE,
    PERMUTATIONS,
    Passages,
    equal_to_earlier,
    fold_words,
    hash_text,
    near_earlier,
    sketch,
)

WORDS = [f"{a}{b}" for a in "bdfghklmnprstvz" for b in ("ora", "ilo", "ume", "ast", "eck", "yng")]


def _text(seed: int, words: int = 150) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def _changed(text: str, every: int) -> str:
    """`text` with each word at a distance of `every` replaced."""
    words = text.split()
    words[::every] = [f"x{word}" for word in words[::every]]
    return " ".join(words)


def _near(texts: list[str], similarity: float = 0.85) -> dict[int, int]:
    signatures = b"".join(sketch(text)[0] for text in texts)
    rows = np.frombuffer(signatures, "<u4").reshape(-1, PERMUTATIONS)
    return near_earlier(rows, similarity)


def test_a_text_with_a_few_words_changed_is_a_near_duplicate_of_the_first() -> None:
    texts = [_text(seed) for seed in range(200)]
    changed = [_changed(texts[seed], 140) for seed in (3, 50, 199)]
    assert _near([*texts, *changed]) == {200: 3, 201: 50, 202: 199}


def test_case_punctuation_and_white_space_do_not_hide_a_near_duplicate() -> None:
    text = _text(1)
    assert _near([text, text.upper().replace(" ", ",\n ")]) == {1: 0}


def test_texts_that_share_half_of_their_words_are_let_be() -> None:
    texts = [_text(seed) for seed in range(60)]
    mixed = [f"{_text(seed, 75)} {_text(seed + 1000, 75)}" for seed in range(60)]
    assert _near([*texts, *mixed]) == {}


def test_copies_of_copies_are_all_named_with_one_that_is_kept() -> None:
    text = _text(5)
    found = _near([text, *(_changed(text, 140 - step) for step in range(20))])
    assert len(found) == 20
    assert not set(found.values()) & found.keys()


def test_a_chinese_text_is_compared_by_its_characters() -> None:
    draw = random.Random(0)
    text = "".join(chr(draw.randrange(0x4E00, 0x5E00)) for _ in range(300))
    other = "".join(chr(draw.randrange(0x4E00, 0x5E00)) for _ in range(300))
    assert _near([text, other, text[:250] + "。" + text[250:]]) == {2: 0}


def test_short_texts_have_no_near_duplicates() -> None:
    assert sketch("What is in crate 7? Crate 7 holds 49 pears.")[0] == b""


@given(st.lists(st.integers(0, 5), max_size=30))
def test_equal_ones_are_named_with_the_first(hashes: list[int]) -> None:
    found = equal_to_earlier(np.array(hashes, np.int64)).tolist()
    for place, first in enumerate(found):
        assert first == (
            -1 if hashes.index(hashes[place]) == place else hashes.index(hashes[place])
        )


@given(st.text(max_size=60))
def test_questions_are_equal_but_for_case_and_marks(text: str) -> None:
    assert hash_text(fold_words(text)) == hash_text(fold_words(f"  {text.swapcase().swapcase()}?"))


@pytest.mark.parametrize(("shared", "leaks"), [(150, True), (100, True), (40, False), (0, False)])
def test_a_row_leaks_where_most_of_its_words_stand_in_training_rows(
    shared: int, leaks: bool
) -> None:
    train = [_text(seed) for seed in range(50)]
    held_out = " ".join([*train[7].split()[:shared], *_text(999, 150 - shared).split()])
    passages = Passages(sketch(text)[1] for text in [*train, held_out])
    of = np.array([*[False] * 50, True])
    [share] = passages.shares(of, ~of)[50:]
    assert bool(share >= LEAK_SHARE) is leaks


def test_sketches_are_the_same_on_every_machine() -> None:
    """Asserts exact values, because an artifact's sketches are compared with those of later builds."""
    signature, ngrams = sketch(_text(0))
    assert (signature[:4].hex(), len(signature), ngrams[:4].hex()) == (
        "c23ea000",
        256,
        "bf2cf609",
    )
