"""The base model loaded for training or beside its adapter."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_assets.errors import StageError, UserError
from ft_assets.stages.models.base_model import BaseModel, fetch_base_model
from ft_assets.stages.models.memory import is_out_of_memory, memory_in_words

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


BASE_MODEL = "base_model.json"


def precision_of(setting: str) -> "torch.dtype":
    """The dtype to train in: `auto` is bfloat16 on a GPU that has it, float16 on an older one, and float32
    on a CPU.

    Raises UserError for a precision that this machine has not.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    if setting == "auto":
        if not on_gpu:
            return torch.float32
        return torch.bfloat16 if has_bfloat16() else torch.float16
    if setting == "fp16" and not on_gpu:
        raise UserError("training.precision fp16 needs a GPU; use auto, fp32 or bf16 here")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[setting]


def has_bfloat16() -> bool:
    """Whether the GPU has bfloat16: an older one, such as a T4, only emulates it, slowly."""
    import torch

    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def load_model(folder: Path, dtype: "torch.dtype") -> "PreTrainedModel":
    """The base model in `folder`, on the GPU where there is one.

    Raises UserError if its weights cannot be loaded, or do not fit into the memory.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, trust_remote_code=False, use_safetensors=True
        )
        return model.to("cuda" if torch.cuda.is_available() else "cpu")  # type: ignore[no-any-return]
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise UserError(
                f"the base model needs more memory than {memory_in_words()}: choose a smaller model.base"
            ) from error
        raise UserError(f"{folder}: the base model cannot be loaded ({error})") from error


def adapter_base(adapter: Path) -> BaseModel:
    """The base model that an adapter was trained on, at the same revision."""
    named = json.loads((adapter / BASE_MODEL).read_text())
    base = fetch_base_model(named["base"], named["revision"])
    if base.revision != named["revision"]:
        raise StageError(
            f"the base model {named['base']} has changed since the adapter was trained; "
            "train the adapter again"
        )
    return base
