"""What the adapter reaches: attention by any name, experts, and clear words for what is not there."""

from typing import Any

import pytest
import torch
import transformers
from pydantic import ValidationError

from ft_assets.config import LoraSettings
from ft_assets.errors import UserError
from ft_assets.stages.training.lora import attention_modules, checked_lora, configure_lora

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "pad_token_id": None,
}
PROJECTIONS = ["k_proj", "o_proj", "q_proj", "v_proj"]
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


def _model(name: str, **more: Any) -> Any:
    text = "Text" if name == "Gemma3" else ""
    sizes = {key: SIZES[key] for key in SIZES if (name, key) != ("Falcon", "head_dim")}
    config = getattr(transformers, f"{name}{text}Config")(**{**sizes, **more})
    suffix = "LMHeadModel" if name == "GPT2" else "ForCausalLM"
    return getattr(transformers, f"{name}{suffix}")(config)


def _mixture(name: str) -> Any:
    more = {"num_experts": 2, "num_local_experts": 2, "n_routed_experts": 2}
    return _model(
        name, **more, num_experts_per_tok=1, moe_intermediate_size=16, first_k_dense_replace=1
    )


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("Llama", PROJECTIONS),
        ("Qwen3", PROJECTIONS),
        ("Gemma3", PROJECTIONS),
        ("Phi3", ["o_proj", "qkv_proj"]),
        ("GPTNeoX", ["dense", "query_key_value"]),
        ("Falcon", ["dense", "query_key_value"]),
        ("GPT2", ["attn.c_proj", "c_attn"]),
        ("Mpt", ["Wqkv", "out_proj"]),
    ],
)
def test_attention_is_found_by_any_name(name: str, modules: list[str]) -> None:
    more = {"query_pre_attn_scalar": 16, "n_embd": 32, "n_head": 2, "d_model": 32, "n_heads": 2}
    model = _model(name, **(more if name in ("Gemma3", "GPT2", "Mpt") else {}))
    assert attention_modules(model) == modules
    lora = LoraSettings(target_modules="attention", lora_dropout=0.0)
    from peft import get_peft_model

    adapted = get_peft_model(model, configure_lora(model, lora))
    named = {key.split(".lora_A")[0] for key, _ in adapted.named_parameters() if "lora_A" in key}
    assert len(named) == 2 * len(modules)
    assert all("attn" in key or "attention" in key for key in named)


def test_a_hybrid_family_has_all_of_its_attention() -> None:
    heads = {f"linear_num_{key}_heads": 2 for key in ("key", "value")}
    sizes = {f"linear_{key}_head_dim": 8 for key in ("key", "value")}
    config = transformers.Qwen3_5TextConfig(**{**SIZES, **heads, **sizes, "num_hidden_layers": 4})
    modules = attention_modules(transformers.Qwen3_5ForCausalLM(config))
    assert {*PROJECTIONS, "in_proj_qkv", "out_proj"} <= set(modules)


def _said(model: Any, **lora: Any) -> tuple[Any, list[str]]:
    lines: list[str] = []
    settings = LoraSettings.model_validate({"lora_dropout": 0.0, **lora})
    return checked_lora(model, settings, lines.append), lines


def test_experts_that_stay_as_they_are_are_named() -> None:
    for name, said in (("GptOss", "experts"), ("Glm4Moe", "shared_experts")):
        _, [line] = _said(_mixture(name))
        assert line.startswith(f"not trained: the weights of the model's {said};")
    assert _said(_mixture("Mixtral"))[1] == []
    assert _said(_model("Llama"))[1] == []
    _, [line] = _said(_mixture("Mixtral"), target_modules="attention")
    assert "experts" in line


def test_experts_are_trained_by_name() -> None:
    config, lines = _said(_mixture("GptOss"), target_parameters=EXPERTS)
    assert set(config.target_parameters) == set(EXPERTS)
    assert lines == []


def test_looking_first_changes_no_random_number() -> None:
    model = _mixture("Mixtral")
    torch.manual_seed(3)
    _said(model)
    drawn = torch.rand(4)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(4))


@pytest.mark.parametrize(
    ("name", "lora", "says"),
    [
        (
            "GptOss",
            {"target_parameters": ["mlp.experts.gate_up"]},
            "target_parameters: the base model has no parameter 'mlp.experts.gate_up'; its experts "
            "are in mlp.experts.down_proj",
        ),
        ("Llama", {"target_parameters": EXPERTS}, "it has no experts"),
        ("Llama", {"target_modules": ["nowhere"]}, "the base model has no module 'nowhere'"),
        (
            "GptOss",
            {"target_modules": ["q_proj", "gate_up_proj"]},
            "no module 'gate_up_proj'; it is a parameter: name it in model.lora.target_parameters",
        ),
        ("Mixtral", {"lora_dropout": 0.05}, "lora_dropout: it must be 0, not 0.05"),
    ],
)
def test_what_cannot_be_reached_is_said(name: str, lora: dict[str, Any], says: str) -> None:
    model = _model(name) if name == "Llama" else _mixture(name)
    with pytest.raises(UserError) as error:
        _said(model, **lora)
    assert says in str(error.value)


def test_parameters_take_no_dropout() -> None:
    with pytest.raises(ValidationError, match=r"lora_dropout \(0.1\) must be 0"):
        LoraSettings(target_parameters=EXPERTS, lora_dropout=0.1)
    assert LoraSettings(target_parameters=EXPERTS).lora_dropout is None
