"""Training: the same loss as TRL's own, on the completion only, and the same in every run."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from ft_assets.config import LoraSettings, TrainingConfig
from ft_assets.errors import UserError
from ft_assets.records import Example
from ft_assets.stages.models.base_model import BaseModel
from ft_assets.stages.models.tuned_model import adapter_base
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager
from ft_assets.stages.templates.tokenization import tokenized_rows
from ft_assets.stages.training import sft
from ft_assets.tables import write_table

LORA = LoraSettings(r=4, lora_alpha=8, lora_dropout=0.0)
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
    write_table(folder / "train.parquet", Example, rows)
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder


def _train(nano: Path, dataset: Path, output: Path, **changes: Any) -> list[dict[str, float]]:
    base = BaseModel(str(nano), "test", nano)
    settings = TrainingConfig.model_validate({**SETTINGS, **changes})
    return sft.train(base, dataset, LORA, settings, output, lambda line: None)


@pytest.mark.parametrize("packing", [False, True])
def test_the_loss_is_trls_own(
    nano_model: Path, dataset: Path, tmp_path: Path, monkeypatch: Any, packing: bool
) -> None:
    from trl import SFTTrainer

    ours = _train(nano_model, dataset, tmp_path / "ours", packing=packing)
    monkeypatch.setattr(sft, "cpu_trainer", lambda: SFTTrainer)
    theirs = _train(nano_model, dataset, tmp_path / "theirs", packing=packing)
    assert [entry["loss"] for entry in ours] == pytest.approx(
        [entry["loss"] for entry in theirs], abs=2e-4
    )


def test_the_same_seed_gives_the_same_adapter(
    nano_model: Path, dataset: Path, tmp_path: Path
) -> None:
    first = _train(nano_model, dataset, tmp_path / "a")
    assert _train(nano_model, dataset, tmp_path / "b") == first
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


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
    assert len(history) == 3


def test_no_deprecated_argument_is_passed_on(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        arguments = sft.training_arguments(TrainingConfig(gradient_checkpointing=True), tmp_path)
    assert arguments.activation_checkpointing


def test_fp16_needs_a_gpu(nano_model: Path, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs a GPU"):
        _train(nano_model, dataset, tmp_path, precision="fp16")


def test_a_base_that_changed_after_training_is_refused(nano_model: Path, tmp_path: Path) -> None:
    named = {"base": str(nano_model), "revision": "another digest"}
    (tmp_path / "base_model.json").write_text(json.dumps(named))
    with pytest.raises(Exception, match="has changed since the adapter was trained"):
        adapter_base(tmp_path)
