"""A packed pair tells whether rows see each other: families that keep them apart pass, others are refused."""

from collections.abc import Callable
from typing import Any

import pytest

from ft_assets.errors import UserError
from ft_assets.stages.training.packing_probe import check_packing

ROWS = [{"input_ids": [*range(3, 40)]}, {"input_ids": [*range(60, 20, -1)]}]
SIZES: dict[str, int] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def _model(family: str, dtype: str = "float32", **more: Any) -> Any:
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SIZES, **more)
    kind: Any = transformers.AutoModelForCausalLM
    model = kind.from_config(config)
    return model.to(getattr(torch, dtype))


KEEP_APART: list[Callable[[], Any]] = [
    lambda: _model("Llama"),
    lambda: _model("Llama", "bfloat16"),
    lambda: _model("Llama", attn_implementation="eager"),
    lambda: _model("Mistral", num_key_value_heads=2, sliding_window=8),
    lambda: _model("Gemma3Text", num_key_value_heads=2, head_dim=8, sliding_window=8),
]


@pytest.mark.parametrize("make", KEEP_APART)
@pytest.mark.parametrize("rows", [ROWS, ROWS[:1]], ids=["two rows", "one row"])
def test_families_that_keep_rows_apart_pass(make: Callable[[], Any], rows: Any) -> None:
    model = make()
    model.train()
    check_packing(model, rows)
    assert model.training


GPT_OSS: dict[str, Any] = {"num_key_value_heads": 2, "head_dim": 8, "num_local_experts": 4}
MIX: list[Callable[[], Any]] = [
    lambda: _model("GptOss", **GPT_OSS),
    lambda: _model("GptOss", "bfloat16", **GPT_OSS),
    lambda: _model("Falcon"),
    lambda: _model("Bloom", "bfloat16"),
    lambda: _model("Mamba"),
]


@pytest.mark.parametrize("make", MIX)
@pytest.mark.parametrize("rows", [ROWS, ROWS[:1]], ids=["two rows", "one row"])
def test_families_that_mix_packed_rows_are_refused(make: Callable[[], Any], rows: Any) -> None:
    with pytest.raises(
        UserError, match=r"would learn from each other: .* set training.packing to false"
    ):
        check_packing(make(), rows)


def test_what_a_family_raises_is_one_message() -> None:
    model = _model("Llama")

    def refuse(*_: Any, **__: Any) -> None:
        raise ImportError("Install causal_conv1d\nor else")

    model.forward = refuse
    with pytest.raises(
        UserError, match=r"\(Install causal_conv1d\): set training.packing to false"
    ):
        check_packing(model, ROWS)
