"""Greedy answers: the same alone and in a batch, cut at the stop token."""

from pathlib import Path
from typing import Any

import pytest

from ft_assets.stages.models.generation import answers
from ft_assets.stages.models.tokenizer import tokenizer_of

PROMPTS = ["Why?", "What is in the third crate from the left, and who put it there?", "Name it."]


@pytest.fixture(scope="module")
def model(nano_model: Path) -> Any:
    import torch

    from ft_assets.stages.models.tuned_model import load_model

    return load_model(nano_model, torch.float32)


def test_an_answer_does_not_depend_on_its_neighbours(model: Any, nano_model: Path) -> None:
    tokenizer = tokenizer_of(nano_model)
    together = list(answers(model, tokenizer, PROMPTS * 15, 6))
    alone = [next(answers(model, tokenizer, [prompt], 6)) for prompt in PROMPTS]
    assert together == alone * 15
    assert [each.prompt_ids for each in alone] == tokenizer(PROMPTS)["input_ids"]


def test_an_answer_ends_with_its_stop_token_or_is_cut(model: Any, nano_model: Path) -> None:
    tokenizer = tokenizer_of(nano_model)
    [cut] = answers(model, tokenizer, PROMPTS[:1], 4)
    assert not cut.stopped
    assert len(cut.ids) == 4
    stop = cut.ids[1]
    before = model.generation_config.eos_token_id
    try:
        model.generation_config.eos_token_id = [stop]
        [stopped] = answers(model, tokenizer, PROMPTS[:1], 4)
    finally:
        model.generation_config.eos_token_id = before
    assert stopped.stopped
    assert stopped.ids == cut.ids[: cut.ids.index(stop) + 1]


def test_nothing_asked_is_nothing_answered(model: Any, nano_model: Path) -> None:
    assert list(answers(model, tokenizer_of(nano_model), [], 4)) == []
