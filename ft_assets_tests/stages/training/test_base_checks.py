"""A base model that cannot be trained as asked is refused from its small files, with what to change."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets.config import LoraSettings
from ft_assets.errors import UserError
from ft_assets.records import Example, Segment
from ft_assets.stages.training.base_checks import (
    check_context,
    check_modules,
    check_template_tokens,
    check_vocabulary,
    config_of,
)
from ft_assets.tables import write_table


def _changed(model: Path, folder: Path, **changes: Any) -> Path:
    """A copy of a model without its weights, with another configuration."""
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


def _lora(*modules: str) -> LoraSettings:
    return LoraSettings(target_modules=list(modules))


@pytest.mark.parametrize(
    ("is_tied", "modules", "says"),
    [
        (
            True,
            ["q_proj", "embed_tokens"],
            "'embed_tokens' shares its weights with the output layer",
        ),
        (True, ["model.embed_tokens"], "merging would lose what it learns: remove it"),
        (True, ["lm_head"], "'lm_head' is the output layer"),
        (False, ["lm_head"], "'lm_head' is the output layer"),
    ],
)
def test_modules_that_cannot_be_trained_are_refused(
    pico_model: Path, tmp_path: Path, is_tied: bool, modules: list[str], says: str
) -> None:
    folder = _changed(pico_model, tmp_path / "base", tie_word_embeddings=is_tied)
    with pytest.raises(UserError, match=r"model\.lora\.target_modules: ") as refused:
        check_modules(config_of(folder), _lora(*modules))
    assert says in str(refused.value)


def test_modules_that_can_be_trained_pass(pico_model: Path, tmp_path: Path) -> None:
    config = config_of(_changed(pico_model, tmp_path / "base", tie_word_embeddings=False))
    check_modules(config, _lora("embed_tokens", "q_proj", "0.mlp.up_proj"))
    for preset in ("all-linear", "attention"):
        check_modules(config, LoraSettings.model_validate({"target_modules": preset}))


@given(context=st.integers(1, 300_000), longest=st.integers(0, 300_000))
def test_a_row_longer_than_the_context_is_refused(context: int, longest: int) -> None:
    from transformers import LlamaConfig

    config = LlamaConfig(max_position_embeddings=context)
    refused = pytest.raises(UserError, match=f"set training.max_length to {context}$")
    with refused if longest > context else nullcontext():
        check_context(config, longest)


def test_a_model_without_a_limit_takes_rows_of_any_length() -> None:
    from transformers import MambaConfig

    check_context(MambaConfig(), 10**6)


def test_an_unknown_architecture_is_one_message(pico_model: Path, tmp_path: Path) -> None:
    folder = _changed(pico_model, tmp_path / "base", model_type="riddle")
    with pytest.raises(UserError, match=r"its config\.json cannot be used .*riddle"):
        config_of(folder)


def _own_tokenizer(model: Path) -> Any:
    """A tokenizer that a test may change."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)


def _dataset(folder: Path, model: Path, text: str) -> Path:
    """A dataset of one training row, with a tokenizer that has one token more than the model."""
    folder.mkdir()
    tokenizer = _own_tokenizer(model)
    tokenizer.add_tokens(["<|late|>"])
    tokenizer.save_pretrained(folder / "tokenizer")
    for name, said in (("train", text), ("eval", "Turnips")):
        segments = [
            Segment(text="Q: ", trained=False),
            Segment(text=f"{said}<|end|>", trained=True),
        ]
        row = Example("1", "record", segments, "d", "s", 0, 0, "g", 0, 0, 0, False)
        write_table(folder / f"{name}.parquet", Example, [row])
    return folder


def test_a_token_without_a_row_in_the_embedding_is_refused(
    pico_model: Path, tmp_path: Path
) -> None:
    config = config_of(pico_model)
    check_vocabulary(config, _dataset(tmp_path / "unused", pico_model, "Biscuit"))
    with pytest.raises(UserError, match=r"'<\|late\|>' has the id (\d+), and .* has \1 rows"):
        check_vocabulary(config, _dataset(tmp_path / "used", pico_model, "a <|late|> goat"))


def test_a_stop_token_without_a_row_is_seen_before_there_are_rows(
    pico_model: Path, tmp_path: Path
) -> None:
    check_template_tokens(pico_model)
    late = _own_tokenizer(pico_model)
    late.add_special_tokens({"eos_token": "<|late|>"})
    folder = _changed(pico_model, tmp_path / "base")
    late.save_pretrained(folder)
    with pytest.raises(UserError, match=r"'<\|late\|>' has the id"):
        check_template_tokens(folder)
