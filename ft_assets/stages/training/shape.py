"""The sizes in a base model that decide what training it takes: from its small files, without weights.

They are those in the headers of its safetensors files. If the weights are not on this disk, they are those
that `config.json` gives for a decoder of the usual kind.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft_assets.config import LoraSettings
from ft_assets.errors import UserError
from ft_assets.stages.models.weights import tensor_shapes, weights_missing
from ft_assets.stages.training.lora import ATTENTION, reaches

_IN_A_LAYER = re.compile(r"\.(\d+)\.")
_EXPERT = re.compile(r"\bexperts\b")
_CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


@dataclass(frozen=True)
class Linear:
    """A linear layer: its name, its sizes, and the share of the tokens that it computes.

    `count` is more than one for experts whose weights are one tensor.
    """

    name: str
    outputs: int
    inputs: int
    share: float = 1.0
    count: int = 1

    @property
    def parameters(self) -> int:
        """The number of its weights."""
        return self.count * self.outputs * self.inputs


@dataclass(frozen=True)
class Shape:
    """The sizes of a base model.

    `linears` are the linear layers in its blocks. `others` counts the parameters outside of them:
    embeddings, norms, an output layer of its own.
    """

    hidden: int
    vocabulary: int
    layers: int
    linears: tuple[Linear, ...]
    others: int

    @property
    def parameters(self) -> int:
        """The number of all parameters."""
        return self.others + sum(each.parameters for each in self.linears)

    @property
    def active(self) -> float:
        """The parameters that one token is multiplied with, without the output layer."""
        return sum(each.share * each.parameters for each in self.linears)

    def adapter(self, lora: LoraSettings) -> int:
        """The parameters of a LoRA adapter with these settings."""
        return sum(
            lora.r * each.count * (each.outputs + each.inputs)
            for each in self.linears
            if _is_adapted(each, lora)
        )


def shape_of(folder: Path) -> Shape | None:
    """The sizes of the model in a folder, whose weights may be missing; None if they cannot be told."""
    try:
        whole = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = whole.get("text_config") or whole
        tensors = {} if weights_missing(folder) else tensor_shapes(folder)
        tensors = tensors or dict(_usual(config))
        return _shape(config, tensors)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, UserError):
        return None


def _shape(config: dict[str, Any], tensors: dict[str, list[int]]) -> Shape:
    share = _share_of_experts(config)
    linears = []
    others = 0
    for name, sizes in tensors.items():
        if _IN_A_LAYER.search(name) and name.endswith("weight") and len(sizes) == 2:
            part = share if _EXPERT.search(name) else 1.0
            linears.append(Linear(name.removesuffix(".weight"), sizes[0], sizes[1], part))
        elif _IN_A_LAYER.search(name) and len(sizes) == 3 and _EXPERT.search(name):
            linears.append(Linear(name, sizes[2], sizes[1], share, sizes[0]))
        else:
            others += math.prod(sizes)
    return Shape(
        int(config["hidden_size"]),
        int(config["vocab_size"]),
        int(config["num_hidden_layers"]),
        tuple(linears),
        others,
    )


def _is_adapted(layer: Linear, lora: LoraSettings) -> bool:
    """Whether LoRA reaches a linear layer; experts in one tensor only if they are named."""
    if any(reaches(each, layer.name) for each in lora.target_parameters or ()):
        return True
    if layer.count > 1:
        return False
    if isinstance(lora.target_modules, list):
        return any(reaches(each, layer.name) for each in lora.target_modules)
    return lora.target_modules == "all-linear" or bool(ATTENTION.search(layer.name))


def _share_of_experts(config: dict[str, Any]) -> float:
    """The share of the experts that each token is given to."""
    of = _first(config, _EXPERTS)
    return min(1.0, _first(config, _CHOSEN) / of) if of else 1.0


def _first(config: dict[str, Any], keys: tuple[str, ...]) -> int:
    return next((int(config[key]) for key in keys if config.get(key)), 0)


def _usual(config: dict[str, Any]) -> Iterator[tuple[str, list[int]]]:
    """The tensors of a decoder of the usual kind: attention, then a gated MLP or experts, in each layer."""
    hidden, words = int(config["hidden_size"]), int(config["vocab_size"])
    heads = int(config["num_attention_heads"])
    size = int(config.get("head_dim") or hidden // heads)
    inner, outer = heads * size, int(config.get("num_key_value_heads") or heads) * size
    experts = _first(config, _EXPERTS)
    width = int((experts and config.get("moe_intermediate_size")) or config["intermediate_size"])
    yield "model.embed_tokens.weight", [words, hidden]
    if not config.get("tie_word_embeddings", False):
        yield "lm_head.weight", [words, hidden]
    for layer in range(int(config["num_hidden_layers"])):
        before = f"model.layers.{layer}"
        yield f"{before}.self_attn.q_proj.weight", [inner, hidden]
        yield f"{before}.self_attn.k_proj.weight", [outer, hidden]
        yield f"{before}.self_attn.v_proj.weight", [outer, hidden]
        yield f"{before}.self_attn.o_proj.weight", [hidden, inner]
        for expert in range(experts or 1):
            mlp = f"{before}.mlp.experts.{expert}" if experts else f"{before}.mlp"
            yield f"{mlp}.gate_proj.weight", [width, hidden]
            yield f"{mlp}.up_proj.weight", [width, hidden]
            yield f"{mlp}.down_proj.weight", [hidden, width]
