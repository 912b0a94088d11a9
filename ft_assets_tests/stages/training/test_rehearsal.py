"""Rehearsal: the base's own answers to general prompts, as training rows."""

from pathlib import Path
from typing import Any

import pytest

from ft_assets.stages.general.texts import rehearsal_prompts
from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager
from ft_assets.stages.templates.tokenization import IGNORED
from ft_assets.stages.training.rehearsal import (
    MAX_NEW_TOKENS,
    Rehearsed,
    read_rehearsed,
    rehearsals,
    rehearse,
    write_rehearsed,
)


@pytest.fixture(scope="module")
def model(nano_model: Path) -> Any:
    import torch

    from ft_assets.stages.models.tuned_model import load_model

    return load_model(nano_model, torch.float32)


def _rehearse(model: Any, tokenizer: Any, count: int, seed: int = 17) -> list[Rehearsed]:
    return rehearse(model, tokenizer, count, seed, lambda line: None)


@pytest.mark.parametrize(
    ("share", "rows", "count"), [(0.0, 100, 0), (0.2, 80, 20), (0.2, 2, 0), (0.5, 10**6, 74)]
)
def test_the_share_is_of_all_rows_and_each_prompt_comes_once(
    share: float, rows: int, count: int
) -> None:
    assert rehearsals(share, rows) == count


def test_a_row_has_the_bases_own_tokens_and_a_loss_on_them_alone(
    model: Any, nano_model: Path
) -> None:
    tokenizer = tokenizer_of(nano_model)
    manager = PromptTemplateManager(tokenizer)
    for each in _rehearse(model, tokenizer, 3):
        prompt = manager.prompt([{"role": "user", "content": each.prompt}])
        asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        row = each.row()
        assert row["input_ids"][: len(asked)] == asked
        assert row["labels"] == [IGNORED] * len(asked) + row["input_ids"][len(asked) :]
        assert 0 < len(row["input_ids"]) - len(asked) <= MAX_NEW_TOKENS


def test_the_seed_draws_the_prompts(model: Any, nano_model: Path) -> None:
    tokenizer = tokenizer_of(nano_model)
    first = _rehearse(model, tokenizer, 4)
    assert _rehearse(model, tokenizer, 4) == first
    assert {each.prompt for each in _rehearse(model, tokenizer, 4, seed=18)} != {
        each.prompt for each in first
    }
    assert {each.prompt for each in first} <= set(rehearsal_prompts())


def test_a_template_without_questions_rehearses_nothing(model: Any, nano_model: Path) -> None:
    tokenizer = tokenizer_of(nano_model)
    tokenizer.chat_template = "{{ raise_exception('no questions here') }}"
    lines: list[str] = []
    assert rehearse(model, tokenizer, 2, 17, lines.append) == []
    assert "no questions here" in lines[-1]


def test_what_was_rehearsed_can_be_read(model: Any, nano_model: Path, tmp_path: Path) -> None:
    assert read_rehearsed(tmp_path) == []
    found = _rehearse(model, tokenizer_of(nano_model), 2)
    write_rehearsed(tmp_path, found)
    assert read_rehearsed(tmp_path) == found
