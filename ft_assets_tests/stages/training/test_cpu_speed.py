"""What makes a training on a CPU faster leaves its results as they are."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from ft_assets.stages.training.cpu_attention import attend_by_rows
from ft_assets.stages.training.cpu_lora import fused_lora

KINDS: list[dict[str, Any]] = [
    {},
    {"use_dora": True},
    {"lora_dropout": 0.5},
    {"use_rslora": True},
]


class Two(torch.nn.Module):
    """Two linear layers, the second with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(6, 10, bias=False)
        self.second = torch.nn.Linear(10, 4)

    @property
    def device(self) -> torch.device:
        return self.second.weight.device

    def forward(self, inputs: torch.Tensor) -> Any:
        return self.second(torch.tanh(self.first(inputs)))


def _tuned(kind: dict[str, Any]) -> Any:
    torch.manual_seed(3)
    lora = LoraConfig(r=2, lora_alpha=4, target_modules=["first", "second"], **kind)
    tuned: Any = get_peft_model(Two(), lora)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    return tuned


def _gradients(tuned: Any, inputs: torch.Tensor, autocast: bool) -> list[torch.Tensor]:
    torch.manual_seed(5)  # of the dropout
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        output = tuned(inputs)
    output.float().pow(2).sum().backward()
    found = [weight.grad.clone() for weight in tuned.parameters() if weight.grad is not None]
    tuned.zero_grad()
    return [output.float().detach(), *found]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=3), autocast=st.booleans())
@settings(max_examples=15, deadline=None)
def test_fused_layers_have_the_values_and_gradients_of_pefts(
    kind: dict[str, Any], shape: list[int], autocast: bool
) -> None:
    tuned = _tuned(kind)
    inputs = torch.randn(*shape, 6)
    plain = _gradients(tuned, inputs, autocast)
    with fused_lora(tuned):
        fused = _gradients(tuned, inputs, autocast)
    rounding = 0.1 if autocast else 1e-5
    for ours, theirs in zip(fused, plain, strict=True):
        assert ours.dtype == theirs.dtype
        largest = float(theirs.abs().max())
        torch.testing.assert_close(ours, theirs, atol=rounding * largest + 1e-6, rtol=0)
    assert "forward" not in vars(tuned.base_model.model.first)


def _packed(model: Any, rows: list[list[int]]) -> torch.Tensor:
    ends = torch.tensor([len(row) for row in rows]).cumsum(0)
    places = torch.cat([torch.zeros(1, dtype=torch.long), ends]).int()
    positions = torch.cat([torch.arange(len(row)) for row in rows])[None]
    ids = torch.tensor([[number for row in rows for number in row]])
    with torch.no_grad():
        logits: torch.Tensor = model(
            input_ids=ids, position_ids=positions, cu_seq_lens_q=places, use_cache=False
        ).logits[0]
    return logits.float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("window", [None, 4])
def test_rows_of_a_sequence_attend_as_they_do_with_a_mask(
    dtype: torch.dtype, window: int | None
) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    def made() -> Any:
        torch.manual_seed(7)
        config = MistralConfig(
            vocab_size=64,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            sliding_window=window,
        )
        model: Any = MistralForCausalLM(config)
        return model.to(dtype).eval()

    usual, ours = made(), made()
    attend_by_rows(ours)
    assert ours.config._attn_implementation != usual.config._attn_implementation
    rows = [list(range(3, 12)), [5], list(range(20, 33))]
    expected = _packed(usual, rows)
    torch.testing.assert_close(
        _packed(ours, rows), expected, atol=1e-5 if dtype == torch.float32 else 0.02, rtol=0
    )
    apart = _packed(ours, rows[2:])
    torch.testing.assert_close(_packed(ours, rows)[-13:], apart, atol=0.02, rtol=0)
