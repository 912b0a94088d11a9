"""The longest batch comes first and leaves no trace; a lack of memory is told in words, before a step."""

from pathlib import Path
from typing import Any

import pytest

from ft_assets.config import LoraSettings, ModelConfig, TrainingConfig
from ft_assets.errors import StageError, UserError
from ft_assets.records import Example, Segment
from ft_assets.stages.models import tuned_model
from ft_assets.stages.models.base_model import BaseModel
from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.stages.training import longest_batch, sft
from ft_assets.stages.training.memory import training_memory
from ft_assets.tables import write_table

SETTINGS: dict[str, Any] = {
    "num_train_epochs": 1.0,
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "max_length": 256,
    "packing": False,
    "precision": "fp32",
}
MODEL = ModelConfig(lora=LoraSettings(r=4, lora_alpha=8, lora_dropout=0.1))
LONGEST = 60


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, pico_model: Path) -> Path:
    """Rows of which one is much longer; it comes late in the training."""
    folder = tmp_path_factory.mktemp("long")
    tokenizer = tokenizer_of(pico_model)
    rows = []
    for n in range(24):
        text = "goat " * (LONGEST if n == 15 else 2 + n % 3)
        segments = [
            Segment(text="Q: ", trained=False),
            Segment(text=f"{text}<|end|>", trained=True),
        ]
        rows.append(Example(f"{n:03}", "record", segments, "d", "s", 0, 0, "g", 0, 0, 0, False))
    write_table(folder / "train.parquet", Example, rows)
    write_table(folder / "eval.parquet", Example, [])
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder


def _train(pico: Path, dataset: Path, output: Path, said: list[str], **changes: Any) -> Any:
    settings = TrainingConfig.model_validate({**SETTINGS, **changes})
    base = BaseModel(str(pico), "test", pico)
    with training_memory(settings):
        return sft.train(base, dataset, MODEL, settings, output, said.append)


@pytest.mark.parametrize("packing", [False, True])
def test_the_training_after_it_is_the_same(
    pico_model: Path, dataset: Path, tmp_path: Path, monkeypatch: Any, packing: bool
) -> None:
    tried: list[str] = []
    monkeypatch.setattr(longest_batch, "_SHARE", 1.0)
    with_it = _train(pico_model, dataset, tmp_path / "a", tried, packing=packing)
    assert [line for line in tried if line.startswith("trying the longest batch: 2 × ")]
    monkeypatch.setattr(longest_batch, "_SHARE", 0.0)
    not_tried: list[str] = []
    without = _train(pico_model, dataset, tmp_path / "b", not_tried, packing=packing)
    assert not [line for line in not_tried if line.startswith("trying")]
    assert with_it == without
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    assert _last_step(tried) == _last_step(not_tried)


def _last_step(lines: list[str]) -> str:
    """The line of the last step without the speed; a busy machine reports other steps, too."""
    return lines[-1].partition("tokens/s")[0].rpartition("  ")[0]


def _full(at: int) -> Any:
    """A model that runs out of memory at a batch with more than `at` tokens."""
    import torch

    usual = tuned_model.load_model

    def load(*given: Any, **more: Any) -> Any:
        model = usual(*given, **more)
        forward = model.forward

        def limited(*args: Any, **inputs: Any) -> Any:
            if inputs["input_ids"].numel() > at:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return forward(*args, **inputs)

        model.forward = limited
        return model

    return load


def test_a_lack_of_memory_is_told_before_the_first_step(
    pico_model: Path, dataset: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(sft, "load_model", _full(at=2 * LONGEST))
    monkeypatch.setattr(longest_batch, "_SHARE", 1.0)
    said: list[str] = []
    with pytest.raises(StageError, match="training needs more memory than") as told:
        _train(pico_model, dataset, tmp_path, said)
    assert not [line for line in said if line.startswith("step")]
    for key in ("per_device_train_batch_size (now 2)", "gradient_checkpointing", "max_length"):
        assert f"training.{key}" in str(told.value)
    small = {"per_device_train_batch_size": 1, "gradient_checkpointing": True}
    with pytest.raises(StageError) as told:
        _train(pico_model, dataset, tmp_path, said, **small, max_length=512)
    assert "per_device_train_batch_size" not in str(told.value)
    assert "gradient_checkpointing" not in str(told.value)
    assert "training.max_length (now 512)" in str(told.value)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["python", "cpu", "cublas"],
)
def test_every_lack_of_memory_is_recognised(error: Exception) -> None:
    with pytest.raises(StageError, match="needs more memory"), training_memory(TrainingConfig()):
        raise error


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), training_memory(TrainingConfig()):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_a_base_that_does_not_fit_is_said(pico_model: Path, monkeypatch: Any) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(UserError, match=r"needs more memory than .* choose a smaller model.base"):
        tuned_model.load_model(pico_model, torch.float32)
