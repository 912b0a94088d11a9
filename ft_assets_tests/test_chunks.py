"""Chunks are exact pieces of their document, never over the limit, in every mode."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets.records import PAGE_BREAK, Document
from ft_assets.stages.chunks import character_cut, recursive_cut, split_text, token_cut

TEXT = st.text(
    st.one_of(st.sampled_from("ab \n.é東🙂\u0301\u200d"), st.characters(codec="utf-8")),
    max_size=400,
)
SIZES = st.integers(16, 80).flatmap(
    lambda size: st.tuples(st.just(size), st.integers(0, size // 2))
)


def _pages(texts: list[str]) -> list[Document]:
    pages, start = [], 0
    for number, text in enumerate(texts, start=1):
        end = start + len(text)
        pages.append(Document("id", number, text, start, end))
        start = end + len(PAGE_BREAK)
    return pages


@pytest.mark.parametrize("mode", [recursive_cut, character_cut])
@given(texts=st.lists(TEXT, min_size=1, max_size=4), sizes=SIZES)
def test_character_sizes_hold_and_offsets_are_exact(
    mode: Any, texts: list[str], sizes: tuple[int, int]
) -> None:
    whole = PAGE_BREAK.join(texts)
    chunks = list(split_text(_pages(texts), mode(*sizes)))
    assert all(whole[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    assert all(len(chunk.text) <= sizes[0] for chunk in chunks)


@given(texts=st.lists(TEXT, min_size=1, max_size=3), sizes=SIZES)
def test_token_sizes_hold_and_offsets_are_exact(
    tokenizer: Any, texts: list[str], sizes: tuple[int, int]
) -> None:
    whole = PAGE_BREAK.join(texts)
    chunks = list(split_text(_pages(texts), token_cut(tokenizer, *sizes)))
    for chunk in chunks:
        assert whole[chunk.start : chunk.end] == chunk.text
        assert len(tokenizer(chunk.text, add_special_tokens=False)["input_ids"]) <= sizes[0] + 8


@given(words=st.lists(st.sampled_from(["goat", "ferry", "turnip"]), min_size=1, max_size=300))
def test_no_word_is_lost(tokenizer: Any, words: list[str]) -> None:
    text = " ".join(words)
    for cut in (recursive_cut(40, 0), character_cut(40, 0), token_cut(tokenizer, 16, 0)):
        joined = " ".join(chunk.text for chunk in split_text(_pages([text]), cut))
        assert joined.split() == words


def test_overlap_repeats_the_end_of_the_chunk_before(tokenizer: Any) -> None:
    text = " ".join(f"word{n}" for n in range(200))
    for cut in (recursive_cut(100, 40), token_cut(tokenizer, 30, 12)):
        chunks = list(split_text(_pages([text]), cut))
        assert len(chunks) > 3
        assert all(b.start < a.end for a, b in itertools.pairwise(chunks))


def test_a_chunk_knows_the_page_it_starts_on() -> None:
    pages = _pages(["a " * 60, "b " * 60, "c " * 60])
    chunks = list(split_text(pages, recursive_cut(100, 0)))
    assert {chunk.text[0]: chunk.page for chunk in chunks} == {"a": 1, "b": 2, "c": 3}


def test_a_paragraph_over_the_limit_is_cut_again() -> None:
    text = "short\n\n" + "long " * 500
    assert max(c.end - c.start for c in split_text(_pages([text]), character_cut(100, 10))) <= 100
