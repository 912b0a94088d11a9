"""Each optional training setting reaches the library, and one that is null leaves the run as it was."""

import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ft_assets.config import ModelConfig, TrainingConfig
from ft_assets.errors import UserError
from ft_assets.records import Example, Segment
from ft_assets.stages.models.base_model import BaseModel
from ft_assets.stages.models.loss import mean_loss
from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.stages.templates.tokenization import tokenized_rows
from ft_assets.stages.training import sft
from ft_assets.stages.training.arguments import (
    check_steps,
    schedule,
    steps_of,
    training_arguments,
)
from ft_assets.stages.training.held_out import best_evaluation
from ft_assets.stages.training.trained import trained_weights
from ft_assets.tables import write_table

LORA = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0}
TRAINING: dict[str, Any] = {
    "num_train_epochs": 2.0,
    "learning_rate": 1e-2,
    "per_device_train_batch_size": 4,
    "packing": False,
    "precision": "fp32",
}


@dataclass
class Trained:
    """What a training gave: its history, the reported lines, the trainer and the adapter's folder."""

    history: list[dict[str, float]]
    lines: list[str]
    trainer: Any
    folder: Path

    @property
    def losses(self) -> list[float]:
        return sft.losses_of(self.history)

    @property
    def optimizer(self) -> str:
        return type(self.trainer.optimizer.optimizer).__name__

    @property
    def modules(self) -> set[str]:
        return {name for name, _ in trained_weights(self.trainer.model)}


Train = Callable[..., Trained]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, pico_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("knobs")
    rows = []
    for n in range(24):
        text = "goat " * (2 + n % 3)
        segments = [
            Segment(text="Q: ", trained=False),
            Segment(text=f"{text}<|end|>", trained=True),
        ]
        rows.append(Example(f"{n:03}", "record", segments, "d", "s", 0, 0, "g", 0, 0, 0, False))
    write_table(folder / "train.parquet", Example, rows[:16])
    write_table(folder / "eval.parquet", Example, rows[16:])
    tokenizer_of(pico_model).save_pretrained(folder / "tokenizer")
    return folder


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory, pico_model: Path, dataset: Path) -> Train:
    work = tmp_path_factory.mktemp("trained")

    def run(data: Path = dataset, lora: Any = None, model: Any = None, **training: Any) -> Trained:
        settings = TrainingConfig.model_validate({**TRAINING, **training})
        chosen = ModelConfig.model_validate({"lora": {**LORA, **(lora or {})}, **(model or {})})
        output = work / str(len(list(work.iterdir())))
        kept: list[Any] = []
        lines: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sft, "_run", _keeping(kept, sft._run))
            base = BaseModel("pico", "1", pico_model)
            history = sft.train(base, data, chosen, settings, output, lines.append)
        return Trained(history, lines, kept[0], output)

    return run


def _keeping(kept: list[Any], usual: Callable[..., None]) -> Callable[..., None]:
    """`usual` that keeps the trainer it is given."""

    def run(trainer: Any, *more: Any) -> None:
        kept.append(trainer)
        usual(trainer, *more)

    return run


@pytest.fixture(scope="module")
def plain(train: Train) -> Trained:
    """The training that sets none of them."""
    return train()


CHANGE_THE_LOSS: list[dict[str, Any]] = [
    {"max_steps": 3, "num_train_epochs": None},
    {"warmup_ratio": 0.5},
    {"warmup_steps": 3},
    {"weight_decay": 0.9},
    {"max_grad_norm": 1e-5},
    {"neftune_noise_alpha": 50.0},
    {"lr_scheduler_type": "cosine_with_min_lr"},
    {"lr_scheduler_type": "warmup_stable_decay"},
    {"lora": {"use_rslora": True}},
    {"lora": {"use_dora": True}},
    {"lora": {"modules_to_save": ["embed_tokens"]}},
    {"lora": {"r": 1}},
    {"model": {"load_in_4bit": True}},
    {"precision": "bf16"},
]


@pytest.mark.parametrize("change", CHANGE_THE_LOSS, ids=str)
def test_it_changes_the_loss(train: Train, plain: Trained, change: dict[str, Any]) -> None:
    assert train(**change).losses != plain.losses


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adamw_torch", "AdamW"),
        ("adamw_torch_fused", "AdamW"),
        ("adamw_bnb_8bit", "AdamW"),
        ("paged_adamw_8bit", "AdamW"),
        ("paged_adamw_32bit", "AdamW"),
        ("adafactor", "Adafactor"),
        ("sgd", "SGD"),
    ],
)
def test_the_optimizer_is_the_one_that_is_named(train: Train, name: str, kind: str) -> None:
    found = train(optim=name, max_steps=1, num_train_epochs=None)
    assert found.optimizer == kind
    inner = found.trainer.optimizer.optimizer
    assert type(inner).__module__.startswith("bitsandbytes") == ("8bit" in name or "paged" in name)
    assert getattr(inner, "is_paged", False) == name.startswith("paged")


def test_attention_is_computed_as_the_setting_says(train: Train) -> None:
    eager = train(model={"attn_implementation": "eager"}, max_steps=1, num_train_epochs=None)
    assert eager.trainer.model.config._attn_implementation == "eager"
    with pytest.raises(
        UserError, match=r"model\.attn_implementation flash_attention_2 needs a GPU"
    ):
        train(model={"attn_implementation": "flash_attention_2"})


def test_rank_dependent_scaling_is_that_of_peft(train: Train, plain: Trained) -> None:
    def scaling(found: Trained) -> float:
        layers = found.trainer.model.modules()
        return next(float(each.scaling["default"]) for each in layers if hasattr(each, "lora_A"))

    assert scaling(plain) == LORA["lora_alpha"] / LORA["r"]
    assert scaling(train(lora={"use_rslora": True})) == LORA["lora_alpha"] / LORA["r"] ** 0.5


def test_whole_modules_are_trained_and_stay_tied(
    train: Train, plain: Trained, pico_model: Path, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    whole = train(lora={"modules_to_save": ["embed_tokens"]})
    more = whole.modules - plain.modules
    assert more
    assert all("embed_tokens" in name or "lm_head" in name for name in more)
    base = AutoModelForCausalLM.from_pretrained(pico_model, dtype=torch.float32)
    tuned: Any = PeftModel.from_pretrained(base, whole.folder).eval()
    ids = torch.arange(5, 20)[None]
    with torch.no_grad():
        before = tuned(input_ids=ids).logits
        merged = tuned.merge_and_unload()
        merged.save_pretrained(tmp_path)
        again: Any = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
        after = again.eval()(input_ids=ids).logits
    assert again.get_output_embeddings().weight is again.get_input_embeddings().weight
    torch.testing.assert_close(after, before, atol=1e-4, rtol=0)


def test_beside_four_bits_every_adapter_weight_gets_a_gradient(train: Train) -> None:
    """Packed for inference, as bitsandbytes does on some CPUs, layers pass none on."""
    import torch

    found = train(model={"load_in_4bit": True}, max_steps=2, num_train_epochs=None)
    weights = dict(trained_weights(found.trainer.model))
    assert {each.dtype for each in weights.values()} == {torch.float32}
    assert all(
        float(each.detach().abs().max()) > 0 for name, each in weights.items() if "lora_B" in name
    )
    kinds = {type(each).__name__ for each in found.trainer.model.modules()}
    assert "Linear4bit" in kinds


def test_the_best_step_is_kept_and_the_training_ends_early(train: Train, dataset: Path) -> None:
    """Rows that say the opposite of the held-out ones: the more it learns, the worse it gets."""
    found = train(
        _opposite(dataset),
        learning_rate=0.02,
        num_train_epochs=10.0,
        eval_strategy="steps",
        eval_steps=2,
        early_stopping_patience=2,
        load_best_model_at_end=True,
    )
    best = best_evaluation(found.history)
    assert best is not None
    assert found.history[-1]["step"] == best["step"] + 4 < steps_of(_settings(10.0), 16)
    assert [line for line in found.lines if line.startswith("stopped early after step")]
    model = found.trainer.model.eval()
    rows = list(
        tokenized_rows(_opposite(dataset) / "eval.parquet", tokenizer_of(dataset / "tokenizer"))
    )
    assert mean_loss(model, rows) == pytest.approx(best["eval_loss"], abs=1e-5)


def _settings(epochs: float) -> TrainingConfig:
    return TrainingConfig.model_validate({**TRAINING, "num_train_epochs": epochs})


def _opposite(dataset: Path) -> Path:
    folder = dataset.parent / "opposite"
    if not folder.exists():
        folder.mkdir()
        words = {"train": "goat ", "eval": "crate "}
        for name, word in words.items():
            rows = []
            for n in range(16):
                segments = [
                    Segment(text="Q: ", trained=False),
                    Segment(text=f"{word * 4}<|end|>", trained=True),
                ]
                rows.append(
                    Example(f"{n:03}", "record", segments, "d", "s", 0, 0, "g", 0, 0, 0, False)
                )
            write_table(folder / f"{name}.parquet", Example, rows)
        tokenizer_of(dataset / "tokenizer").save_pretrained(folder / "tokenizer")
    return folder


@pytest.mark.parametrize("strategy", ["epoch", "steps"])
def test_the_held_out_loss_is_taken_as_often_as_is_said(train: Train, strategy: str) -> None:
    every = {"eval_steps": 3} if strategy == "steps" else {}
    found = train(eval_strategy=strategy, **every)
    taken = [entry["step"] for entry in found.history if "eval_loss" in entry]
    assert taken == ([0, 4, 8] if strategy == "epoch" else [0, 3, 6, 8])


def test_no_held_out_row_is_said(train: Train, dataset: Path, tmp_path: Path) -> None:
    blind = shutil.copytree(dataset, tmp_path / "blind")
    write_table(blind / "eval.parquet", Example, [])
    with pytest.raises(UserError, match=r"training\.eval_strategy: no row is held out"):
        train(blind, eval_strategy="epoch")


def test_nulls_leave_what_the_library_does(tmp_path: Path) -> None:
    from trl import SFTConfig

    ours = training_arguments(TrainingConfig(), tmp_path)
    theirs = SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    nulls = [name for name, each in TrainingConfig.model_fields.items() if each.default is None]
    known = {field.name for field in fields(SFTConfig)}
    for name in (*nulls, "lr_scheduler_kwargs"):
        if name in known and name != "per_device_train_batch_size":
            assert getattr(ours, name) == getattr(theirs, name), name


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"max_steps": 5, "num_train_epochs": 2.0},
            "max_steps takes the place of num_train_epochs",
        ),
        ({"warmup_steps": 5, "warmup_ratio": 0.1}, "warmup_ratio takes the place of warmup_steps"),
        ({"max_steps": 5, "warmup_steps": 5}, "would never be reached"),
        ({"max_steps": 5, "eval_strategy": "steps", "eval_steps": 6}, "must be at most max_steps"),
        ({"eval_steps": 6}, "belong together"),
        ({"eval_strategy": "steps"}, "belong together"),
        ({"early_stopping_patience": 2}, "set eval_strategy"),
        ({"load_best_model_at_end": True}, "set eval_strategy"),
        ({"lr_scheduler_kwargs": {"min_lr": 1e-5}}, "lr_scheduler_type: cosine_with_min_lr"),
        (
            {
                "lr_scheduler_type": "cosine_with_min_lr",
                "lr_scheduler_kwargs": {"min_lr": 1e-5, "min_lr_rate": 0.1},
            },
            "say the same thing",
        ),
    ],
    ids=str,
)
def test_settings_that_disagree_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TrainingConfig.model_validate(settings)


@pytest.mark.parametrize(
    "lora",
    [
        {"target_modules": []},
        {"target_modules": [" "]},
        {"modules_to_save": []},
        {"target_parameters": []},
    ],
    ids=str,
)
def test_an_empty_list_is_refused_in_words(lora: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="must name at least one"):
        ModelConfig.model_validate({"lora": lora})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"warmup_steps": 100}, r"training\.warmup_steps: 100 of 8 steps"),
        ({"eval_strategy": "steps", "eval_steps": 9}, r"training\.eval_steps: 9 of 8 steps"),
        (
            {
                "lr_scheduler_type": "warmup_stable_decay",
                "warmup_steps": 3,
                "lr_scheduler_kwargs": {"num_decay_steps": 6},
            },
            r"lr_scheduler_kwargs\.num_decay_steps: 6 of 8 steps",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_the_run_is_refused(settings: dict[str, Any], said: str) -> None:
    own = TrainingConfig.model_validate({**TRAINING, **settings})
    with pytest.raises(UserError, match=said):
        check_steps(own, steps_of(own, 16))


def test_schedules_have_what_they_need() -> None:
    def of(kind: str, **own: Any) -> Any:
        return schedule(
            TrainingConfig.model_validate({"lr_scheduler_type": kind, "lr_scheduler_kwargs": own}),
            200,
        )

    assert of("cosine") is None
    assert of("cosine_with_min_lr") == {"min_lr_rate": 0.1}
    assert of("cosine_with_min_lr", min_lr=1e-6) == {"min_lr": 1e-6}
    assert of("warmup_stable_decay") == {"num_decay_steps": 20}
    assert of("warmup_stable_decay", min_lr_ratio=0.2) == {
        "num_decay_steps": 20,
        "min_lr_ratio": 0.2,
    }


def test_steps_are_those_that_the_trainer_makes(train: Train) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = train(
            per_device_train_batch_size=3, gradient_accumulation_steps=2, num_train_epochs=1.5
        )
    settings = TrainingConfig.model_validate(
        {
            **TRAINING,
            "per_device_train_batch_size": 3,
            "gradient_accumulation_steps": 2,
            "num_train_epochs": 1.5,
        }
    )
    assert found.trainer.state.max_steps == steps_of(settings, 16)
