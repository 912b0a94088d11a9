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
_BITS = "bits"
MXFP4 = "mxfp4"
"""How gpt-oss's checkpoints are quantised: transformers can turn their weights into bfloat16."""


def load_model(
    folder: Path, dtype: "torch.dtype", *, four_bit: bool = False, attention: str | None = None
) -> "PreTrainedModel":
    """The base model in `folder`, on the GPU where there is one.

    With `four_bit` the weights of its linear layers but the output layer are NF4 with double quantisation
    (QLoRA, Dettmers et al. 2023), and `dtype` is what they are computed in. `attention` is the
    implementation of attention, by default transformers' choice.
    Raises UserError if its weights cannot be loaded, or do not fit into the memory.
    """
    import torch
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if attention == "flash_attention_2" and device == "cpu":
        raise UserError(f"model.attn_implementation {attention} needs a GPU; remove it here")
    options: dict[str, Any] = {"attn_implementation": attention} if attention else {}
    if four_bit:
        options |= {"quantization_config": _four_bit(dtype), "device_map": {"": device}}
    elif quantization_of(folder) == MXFP4:
        options["quantization_config"] = _unpacked()
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, trust_remote_code=False, use_safetensors=True, **options
        )
        return _trainable(model) if four_bit else model.to(device)  # type: ignore[no-any-return]
    except (OSError, ValueError, RuntimeError, MemoryError, ImportError) as error:
        if is_out_of_memory(error):
            raise UserError(
                f"the base model needs more memory than {memory_in_words()}: choose a smaller model.base"
            ) from error
        if attention and "attention" in str(error).lower():
            said = str(error).strip().splitlines()[0]
            raise UserError(f"model.attn_implementation {attention}: {said}") from error
        raise UserError(f"{folder}: the base model cannot be loaded ({error})") from error


def _four_bit(dtype: "torch.dtype") -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def quantization_of(folder: Path) -> str | None:
    """How a checkpoint's own weights are quantised, by its config.json; None if they are not."""
    found = json.loads((folder / "config.json").read_text()).get("quantization_config")
    return str(found.get("quant_method") or "quantization_config") if found else None


def _unpacked() -> Any:
    from transformers.utils.quantization_config import Mxfp4Config

    return Mxfp4Config(dequantize=True)


def _trainable(model: Any) -> Any:
    """Keeps bitsandbytes from packing 4-bit weights for inference, as it does at the first forward pass
    without gradients on a CPU with AVX512-BF16: packed weights pass no gradient on, without an error."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def write_base(adapter: Path, base: BaseModel, *, four_bit: bool) -> None:
    """Says in an adapter's folder which base model it was trained on, and whether in four bits."""
    named = {"base": base.base, "revision": base.revision, **({_BITS: 4} if four_bit else {})}
    (adapter / BASE_MODEL).write_text(json.dumps(named, indent=1) + "\n")


def was_four_bit(adapter: Path) -> bool:
    """Whether an adapter was trained beside a base in four bits."""
    return _BITS in json.loads((adapter / BASE_MODEL).read_text())


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
