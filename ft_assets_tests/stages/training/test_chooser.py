"""Settings that are null are chosen so that a corpus gets enough updates and not too many passes."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets.config import LoraSettings, TrainingConfig
from ft_assets.stages.models.weights import parameters_of
from ft_assets.stages.training.chooser import Data, Resolved, choose

SMALL, LARGE = 135_000_000, 8_000_000_000


def _choose(rows: int, *, longest: int = 200, text_only: bool = False, **own: Any) -> Resolved:
    data = Data(rows, longest, text_only)
    return choose(TrainingConfig.model_validate(own), LoraSettings(), data, SMALL)


@pytest.mark.parametrize(
    ("rows", "batch", "epochs"), [(97, 1, 3), (205, 2, 2), (6, 1, 8), (1_100, 8, 2), (31, 1, 8)]
)
def test_the_measured_points(rows: int, batch: int, epochs: float) -> None:
    found = _choose(rows).training
    assert (found.per_device_train_batch_size, found.num_train_epochs) == (batch, epochs)
    assert found.learning_rate == 1e-3
    assert found.packing is False


@given(rows=st.integers(31, 1_100))
def test_a_corpus_of_ordinary_size_gets_about_250_updates(rows: int) -> None:
    found = _choose(rows).training
    assert found.num_train_epochs
    assert found.per_device_train_batch_size
    updates = rows * found.num_train_epochs / found.per_device_train_batch_size
    assert 190 <= updates <= 320


@given(rows=st.integers(1, 10**6), longest=st.integers(1, 10**5))
def test_passes_and_memory_are_bounded(rows: int, longest: int) -> None:
    found = _choose(rows, longest=longest).training
    assert 2 <= (found.num_train_epochs or 0) <= 8
    batch = found.per_device_train_batch_size or 0
    assert batch == 1 or batch * longest <= 2_048


def test_text_alone_is_not_passed_over_often() -> None:
    assert (_choose(6, text_only=True).training.num_train_epochs or 9) <= 4


def test_a_large_model_takes_a_lower_rate() -> None:
    data = Data(100, 200, text_only=False)
    assert choose(TrainingConfig(), LoraSettings(), data, LARGE).training.learning_rate == 3e-4


def test_what_is_set_stays_and_is_not_named_as_chosen() -> None:
    found = _choose(97, learning_rate=5e-4, packing=True)
    assert found.training.learning_rate == 5e-4
    assert found.training.packing is True
    assert found.chosen == {
        "training.num_train_epochs": 3.0,
        "training.per_device_train_batch_size": 1,
        "training.rehearsal": 0.2,
        "model.lora.lora_dropout": 0.0,
    }
    assert found.lora.lora_dropout == 0.0


def test_a_larger_batch_of_ones_own_takes_more_passes() -> None:
    assert _choose(97, per_device_train_batch_size=8).training.num_train_epochs == 8
    assert _choose(500, gradient_accumulation_steps=4).training.num_train_epochs == 8


def test_parameters_are_counted_without_loading_them(nano_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(nano_model)
    tied = sum(each.numel() for each in {id(p): p for p in model.parameters()}.values())
    assert parameters_of(nano_model) == tied
