"""The LoRA adapter alone as a GGUF file, to be used with a GGUF file of its base model."""

import json
import math
import re
import tempfile
from pathlib import Path
from typing import Any

from ft_assets.errors import StageError, UserError
from ft_assets.stages.export.converter import reason_of, run_lora_converter
from ft_assets.stages.models.weights import tensor_names

_CONFIG = "adapter_config.json"
_EXPERTS = re.compile(r"\.experts\.\D")
_REMOVE = "remove export.lora_gguf"
_NOT_IN_A_FILE = {
    "use_dora": "DoRA also trains the length of each weight vector",
    "modules_to_save": "modules_to_save are whole modules",
    "trainable_token_indices": "trainable_token_indices are whole rows of the embedding",
    "alpha_pattern": "a file has one alpha for all layers",
    "lora_bias": "lora_bias trains biases",
}
"""Settings of PEFT whose result has no place in an adapter's GGUF file, and why."""


def convert_lora(adapter: Path, model: Path, target: Path) -> None:
    """Converts the PEFT adapter in a folder to a GGUF file, in f32 as llama.cpp's converter does.

    `model` is the folder of its base model, whose weights are not read. Raises UserError for an adapter that
    such a file cannot hold.
    """
    config = json.loads((adapter / _CONFIG).read_text())
    _check_experts(adapter)
    _check_settings(config)
    with tempfile.TemporaryDirectory(prefix="ft-assets-adapter-") as scratch:
        given = Path(scratch)
        weights = adapter / "adapter_model.safetensors"
        (given / weights.name).symlink_to(weights.absolute())
        (given / _CONFIG).write_text(json.dumps({**config, "lora_alpha": _alpha(config)}))
        done = run_lora_converter(model, given, target)
    if done.returncode < 0:
        raise StageError(
            f"llama.cpp's converter of adapters was killed (signal {-done.returncode})"
        )
    if done.returncode:
        raise UserError(
            f"export.lora_gguf: llama.cpp cannot convert this adapter ({reason_of(done.stderr)}): {_REMOVE}, "
            "or train only layers that it knows (model.lora.target_modules: attention)"
        )


def _check_experts(adapter: Path) -> None:
    """Raises UserError if an adapter trains experts whose weights are in one tensor, as transformers has them."""
    for name in sorted(tensor_names(adapter)):
        if _EXPERTS.search(name):
            raise UserError(
                "export.lora_gguf: the adapter trains the experts of a mixture of experts "
                f"({name}), which llama.cpp's GGUF files of adapters cannot hold: {_REMOVE}, or train attention "
                "only (model.lora.target_modules: attention)"
            )


def _check_settings(config: dict[str, Any]) -> None:
    """Raises UserError for what an adapter's GGUF file cannot express: the converter would leave it out."""
    for key, why in _NOT_IN_A_FILE.items():
        if config.get(key):
            raise UserError(
                f"export.lora_gguf: an adapter with {key} cannot become a GGUF file ({why}): {_REMOVE}; "
                "the merged model's files hold everything"
            )
    if config.get("use_rslora") and config.get("rank_pattern"):
        raise UserError(
            f"export.lora_gguf: an adapter with use_rslora and rank_pattern cannot become a GGUF file: {_REMOVE}"
        )


def _alpha(config: dict[str, Any]) -> float:
    """The alpha to write: llama.cpp scales by alpha / r, a rank-stabilised adapter by alpha / sqrt(r)."""
    alpha = float(config["lora_alpha"])
    return alpha * math.sqrt(config["r"]) if config.get("use_rslora") else alpha
