"""Which parts of a base model the LoRA adapter reaches: the settings under `model.lora`."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ft_assets.config import LoraSettings
from ft_assets.errors import UserError
from ft_assets.stages.job import Report

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel

ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_EXPERTS = re.compile(r"(?:shared_)?experts?")


def configure_lora(model: "PreTrainedModel", lora: LoraSettings) -> "LoraConfig":
    """PEFT's configuration for the settings under `model.lora`.

    Raises UserError if the model lacks what they name.
    """
    from peft import LoraConfig

    check_names(model, lora)
    modules = lora.target_modules
    is_tied = bool(model.config.get_text_config(decoder=True).tie_word_embeddings)
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=attention_modules(model) if modules == "attention" else modules,
        target_parameters=lora.target_parameters,
        modules_to_save=lora.modules_to_save,
        ensure_weight_tying=is_tied and bool(lora.modules_to_save),
        use_rslora=bool(lora.use_rslora),
        use_dora=bool(lora.use_dora),
        task_type="CAUSAL_LM",
    )


def check_names(model: "PreTrainedModel", lora: LoraSettings) -> None:
    """Raises UserError if the model lacks a module or a parameter that the settings name."""
    if isinstance(lora.target_modules, list):
        _require_modules(model, lora.target_modules, "target_modules")
    if lora.modules_to_save:
        _require_modules(model, lora.modules_to_save, "modules_to_save")
    if lora.target_parameters:
        _require_parameters(model, lora.target_parameters)


def checked_lora(model: "PreTrainedModel", lora: LoraSettings, report: Report) -> "LoraConfig":
    """The configuration, after PEFT took it for a model of the same shape without weights.

    Says which experts of a mixture of experts stay as they are. Raises UserError for what PEFT refuses.
    """
    import torch
    from peft import get_peft_model

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        empty: Any = type(model)(model.config)
        try:
            tried = get_peft_model(empty, configure_lora(empty, lora))
        except ValueError as error:
            raise UserError(_refused(lora, str(error))) from error
    names = [name for name, _ in tried.named_parameters()]
    if left := experts_left(names, [name for name in names if "lora_" in name]):
        report(said_of_experts(left))
    return configure_lora(model, lora)


def _refused(lora: LoraSettings, said: str) -> str:
    if "lora_dropout" in said:
        return (
            f"model.lora.lora_dropout: it must be 0, not {lora.lora_dropout}, because the adapter reaches "
            "the experts of this model, whose weights are parameters and not layers"
        )
    return f"model.lora: PEFT refuses these settings for this base model: {said}"


def attention_modules(model: "PreTrainedModel") -> list[str]:
    """The names of the linear layers of attention blocks, whatever the family calls them: q_proj, k_proj,
    v_proj and o_proj in most, or fused as in Phi-3's qkv_proj.

    Raises UserError if there are none.
    """
    layers = _linear_layers(model)
    inside = {name for name in layers if ATTENTION.search(name.split(".")[-2:-1][0])}
    others = {name.rpartition(".")[2] for name in layers - inside}
    found = set()
    for name in inside:
        block, layer = name.split(".")[-2:]
        # A layer of the same name outside attention, as GPT-2's c_proj, is told apart by its block.
        found.add(f"{block}.{layer}" if layer in others else layer)
    if not found:
        raise UserError(
            "model.lora.target_modules: no attention layers were found in the base model; "
            "set it to all-linear or to a list of module names"
        )
    return sorted(found)


def _linear_layers(model: "PreTrainedModel") -> set[str]:
    """The names of the linear layers that are in a block."""
    import torch
    from transformers.pytorch_utils import Conv1D

    return {
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and "." in name
    }


def _require_modules(model: "PreTrainedModel", wanted: list[str], key: str) -> None:
    modules = [name for name, _ in model.named_modules()]
    for name in wanted:
        if _has(modules, name) or name in _FORMER:
            continue
        hint = ""
        if _has((each for each, _ in model.named_parameters()), name):
            hint = "; it is a parameter: name it in model.lora.target_parameters"
        raise UserError(f"model.lora.{key}: the base model has no module {name!r}{hint}")


_FORMER = ("w1", "w2", "w3")
"""Mixtral's experts as everybody knows them: PEFT turns them into the parameters that they became."""


def _require_parameters(model: "PreTrainedModel", wanted: list[str]) -> None:
    parameters = [name for name, _ in model.named_parameters()]
    missing = [name for name in wanted if not _has(parameters, name)]
    if not missing:
        return
    experts = sorted({_short(name) for name in parameters if _is_expert(name)})
    known = f"; its experts are in {', '.join(experts)}" if experts else "; it has no experts"
    raise UserError(
        f"model.lora.target_parameters: the base model has no parameter {missing[0]!r}{known}"
    )


def _has(names: Iterable[str], wanted: str) -> bool:
    """Whether PEFT takes one of `names` for `wanted`."""
    return any(reaches(wanted, name) for name in names)


def reaches(wanted: str, name: str) -> bool:
    """Whether PEFT takes a module or parameter for `wanted`, its whole name or the end of it."""
    return f".{name}".endswith(f".{wanted}")


def _short(name: str) -> str:
    """A parameter's name within its layer, as `mlp.experts.down_proj`."""
    return re.split(r"\.\d+\.", name)[-1]


def _is_expert(name: str) -> bool:
    return any(_EXPERTS.fullmatch(part) for part in name.split("."))


def experts_left(names: Iterable[str], adapted: Iterable[str]) -> list[str]:
    """The kinds of experts (`experts`, `shared_experts`) in tensors' names that no adapted one is of."""
    return sorted(_kinds(names) - _kinds(adapted))


def _kinds(names: Iterable[str]) -> set[str]:
    return {part for name in names for part in name.split(".") if _EXPERTS.fullmatch(part)}


def said_of_experts(left: list[str]) -> str:
    """What to say of experts that are not trained."""
    return (
        f"not trained: the weights of the model's {' and '.join(left)}; "
        "to train experts, name their parameters in model.lora.target_parameters"
    )
