"""Training: the same loss as TRL's own, on the completion only, and the same in every run."""

import json
import shutil
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets.config import LoraSettings, ModelConfig, TrainingConfig
from ft_assets.errors import UserError
from ft_assets.records import Example
from ft_assets.stages.models.base_model import BaseModel
from ft_assets.stages.models.loss import Row, mean_loss
from ft_assets.stages.models.tuned_model import adapter_base
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager
from ft_assets.stages.templates.tokenization import tokenized_rows
from ft_assets.stages.training import sft
from ft_assets.stages.training.arguments import training_arguments
from ft_assets.stages.training.held_out import spread
from ft_assets.tables import write_table

LORA = LoraSettings(r=4, lora_alpha=8, lora_dropout=0.0)
DROPPING = LORA.model_copy(update={"lora_dropout": 0.1})
"""Draws random numbers at each step."""
SETTINGS: dict[str, Any] = {
    "num_train_epochs": 1.0,
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "max_length": 128,
    "packing": False,
    "gradient_checkpointing": False,
    "precision": "fp32",
    "optim": "adamw_torch",
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0,
    "seed": 17,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    manager = PromptTemplateManager(tokenizer)
    rows = []
    for n in range(24):
        row = manager.format(
            [
                {"role": "user", "content": f"What is in crate {n}?" + " Say." * (n % 5)},
                {"role": "assistant", "content": f"Crate {n} holds {n * 7} pears."},
            ]
        )
        rows.append(Example(str(n), "record", row.segments, "d", "s", 0, 0, "g", 0, 0, 0, False))
    write_table(folder / "train.parquet", Example, rows[:20])
    write_table(folder / "eval.parquet", Example, rows[20:])
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder


def _train(
    nano: Path, dataset: Path, output: Path, lora: LoraSettings = LORA, **changes: Any
) -> list[dict[str, float]]:
    base = BaseModel(str(nano), "test", nano)
    settings = TrainingConfig.model_validate({**SETTINGS, **changes})
    return sft.train(base, dataset, ModelConfig(lora=lora), settings, output, lambda line: None)


def _losses(history: list[dict[str, float]]) -> list[float]:
    return [entry["loss"] for entry in history if "loss" in entry]


@pytest.mark.parametrize("packing", [False, True])
def test_the_loss_is_trls_own(
    nano_model: Path, dataset: Path, tmp_path: Path, monkeypatch: Any, packing: bool
) -> None:
    from trl import SFTTrainer

    ours = _train(nano_model, dataset, tmp_path / "ours", packing=packing)
    monkeypatch.setattr(sft, "cpu_trainer", lambda: SFTTrainer)
    theirs = _train(nano_model, dataset, tmp_path / "theirs", packing=packing)
    assert _losses(ours) == pytest.approx(_losses(theirs), abs=2e-4)


def test_the_same_seed_gives_the_same_adapter(
    nano_model: Path, dataset: Path, tmp_path: Path
) -> None:
    first = _train(nano_model, dataset, tmp_path / "a")
    assert _train(nano_model, dataset, tmp_path / "b") == first
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


def test_the_held_out_loss_is_in_the_history_and_changes_nothing(
    nano_model: Path, dataset: Path, tokenizer: Any, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    history = _train(nano_model, dataset, tmp_path / "seen", lora=DROPPING)
    held_out = {entry["step"]: entry["eval_loss"] for entry in history if "eval_loss" in entry}
    assert history[0].keys() == {"step", "epoch", "eval_loss"}
    assert list(held_out) == [0, 1, 2, 3]
    base = AutoModelForCausalLM.from_pretrained(nano_model, dtype="float32")
    tuned = PeftModel.from_pretrained(base, tmp_path / "seen").eval()
    rows = list(tokenized_rows(dataset / "eval.parquet", tokenizer))
    assert held_out[3] == pytest.approx(mean_loss(tuned, rows), abs=1e-4)
    with tuned.disable_adapter():
        assert held_out[0] == pytest.approx(mean_loss(tuned, rows), abs=1e-4)
    blind = shutil.copytree(dataset, tmp_path / "blind")
    write_table(blind / "eval.parquet", Example, [])
    unseen = _train(nano_model, blind, tmp_path / "unseen", lora=DROPPING)
    assert _losses(unseen) == _losses(history)
    weights = [(tmp_path / name / "adapter_model.safetensors") for name in ("seen", "unseen")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@given(st.integers(0, 500))
def test_held_out_rows_are_spread_over_all(count: int) -> None:
    rows: list[Row] = [{"input_ids": [n], "labels": [-100, n]} for n in range(count)]
    seen = [row["input_ids"][0] for row in spread(rows, 8)]
    assert len(seen) == count if count <= 8 else 4 < len(seen) <= 8
    gaps = {after - before for before, after in pairwise(seen)}
    assert len(gaps) <= 1
    assert not seen or count - seen[-1] <= max(gaps, default=1)


def test_rows_without_a_label_say_nothing() -> None:
    assert spread([{"input_ids": [1, 2], "labels": [-100, -100]}]) == []


def test_only_the_completion_is_trained(dataset: Path, tokenizer: Any) -> None:
    for row in tokenized_rows(dataset / "train.parquet", tokenizer):
        trained = [label for label in row["labels"] if label != -100]
        assert tokenizer.decode(trained).startswith("Crate ")
        assert trained[-1] == tokenizer.eos_token_id
        assert row["input_ids"][-len(trained) :] == trained


@pytest.mark.parametrize(
    "change",
    [{"optim": "adafactor"}, {"precision": "bf16"}, {"gradient_checkpointing": True}],
    ids=str,
)
def test_the_knobs_turn(nano_model: Path, dataset: Path, tmp_path: Path, change: Any) -> None:
    history = _train(nano_model, dataset, tmp_path, **change)
    assert len(_losses(history)) == 3


def test_no_deprecated_argument_is_passed_on(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        arguments = training_arguments(TrainingConfig(gradient_checkpointing=True), tmp_path)
    assert arguments.activation_checkpointing


def test_fp16_needs_a_gpu(nano_model: Path, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs a GPU"):
        _train(nano_model, dataset, tmp_path, precision="fp16")


def test_a_base_that_changed_after_training_is_refused(nano_model: Path, tmp_path: Path) -> None:
    named = {"base": str(nano_model), "revision": "another digest"}
    (tmp_path / "base_model.json").write_text(json.dumps(named))
    with pytest.raises(Exception, match="has changed since the adapter was trained"):
        adapter_base(tmp_path)
