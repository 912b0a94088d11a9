"""How far a file is from its model decides whether it may be used, and is what the card and the manifest say."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ft_assets.errors import UserError
from ft_assets.stages.export.base_gguf import base_gguf
from ft_assets.stages.export.divergence import Divergence, measure_of_adapter, verdict
from ft_assets.stages.export.lora import convert_lora
from ft_assets.stages.models.base_model import fetch_base_model


@pytest.mark.parametrize(
    ("kind", "kl", "passed", "blocking"),
    [
        ("f16", 1e-4, True, False),
        ("f16", 0.02, False, True),
        ("bf16", math.inf, False, True),
        ("lora", 0.02, False, True),
        ("Q4_K_M", 0.17, True, False),
        ("Q2_K", 0.7, False, False),
        ("Q4_K_M", math.inf, False, False),
    ],
)
def test_only_a_file_that_is_wrong_blocks(
    kind: str, kl: float, passed: bool, blocking: bool
) -> None:
    [found] = verdict({kind: Divergence(kl, 0.9)}).values()
    assert (found["passed"], found["blocking"]) == (passed, blocking)
    assert kind in found["message"]
    json.dumps(found, allow_nan=False)


def test_one_wrong_file_among_good_ones_is_named() -> None:
    good, bad = Divergence(1e-5, 1.0), Divergence(3.0, 0.1)
    [found] = verdict({"f16": good, "Q8_0": good, "TQ1_0": bad}).values()
    assert "TQ1_0 at most 0.5" in found["message"]
    assert "f16 at most" not in found["message"]
    assert found["numbers"]["TQ1_0_kl"] == 3.0


def _adapter(folder: Path, base: Path, **settings: Any) -> Path:
    """An adapter of the base model in `base` that changes what it says, as a training saves one."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    config = LoraConfig(
        r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM", **settings
    )
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.3)
    model.save_pretrained(folder)
    named = {"base": str(base), "revision": fetch_base_model(str(base), None).revision}
    (folder / "base_model.json").write_text(json.dumps(named))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}])
def test_the_file_of_an_adapter_on_its_base_is_the_tuned_model(
    nano_model: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """A rank-stabilised one has another scale, which the converter does not know."""
    adapter = _adapter(tmp_path / "adapter", nano_model, **settings)
    convert_lora(adapter, nano_model, tmp_path / "a-lora.gguf")
    tuned = measure_of_adapter(adapter, [list(range(40, 90)), list(range(200, 300))])
    base = base_gguf(fetch_base_model(str(nano_model), None))
    assert tuned.of(base, tmp_path / "a-lora.gguf").kl < 1e-3
    assert tuned.of(base).kl > 0.01


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"alpha_pattern": {"q_proj": 4}}, "alpha_pattern"),
        ({"use_rslora": True, "rank_pattern": {"q_proj": 4}}, "use_rslora and rank_pattern"),
    ],
)
def test_what_the_file_of_an_adapter_cannot_hold_is_refused(
    tmp_path: Path, config: dict[str, Any], named: str
) -> None:
    content = {"r": 8, "lora_alpha": 16, **config}
    (tmp_path / "adapter_config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=named) as refused:
        convert_lora(tmp_path, tmp_path, tmp_path / "a-lora.gguf")
    assert "remove export.lora_gguf" in str(refused.value)


def test_the_file_of_an_adapter_cannot_hold_experts(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    name = "base_model.model.model.layers.0.mlp.experts.base_layer.lora_A.weight"
    save_file({name: torch.zeros(1, 1)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 8, "lora_alpha": 16}))
    with pytest.raises(UserError, match="trains the experts of a mixture of experts"):
        convert_lora(tmp_path, tmp_path, tmp_path / "a-lora.gguf")
