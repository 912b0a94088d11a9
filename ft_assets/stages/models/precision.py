"""The precision that models are computed in on this machine."""

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ft_assets.errors import UserError

if TYPE_CHECKING:
    import torch

_CPU_INFO = Path("/proc/cpuinfo")


def precision_of(setting: str) -> "torch.dtype":
    """The dtype for `training.precision`. `auto` is bfloat16 where the GPU, or without one the CPU, has it;
    else float16 on a GPU and float32 on a CPU.

    Raises UserError for a precision that this machine has not.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    if setting == "auto":
        if has_bfloat16():
            return torch.bfloat16
        return torch.float16 if on_gpu else torch.float32
    if setting == "fp16" and not on_gpu:
        raise UserError("training.precision fp16 needs a GPU; use auto, fp32 or bf16 here")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[setting]


def name_of(dtype: "torch.dtype") -> str:
    """How `training.precision` spells a dtype."""
    return {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}[str(dtype).split(".")[1]]


def has_bfloat16() -> bool:
    """Whether the GPU, or the CPU if there is none, computes in bfloat16.

    An older GPU, such as a T4, only emulates it, slowly; so does an older CPU.
    """
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return cpu_has_bfloat16()


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 by itself: twice as fast as float32 (measured with
    AVX512-BF16). Without these instructions torch converts each operand, which is slower than float32.

    Known on Linux; elsewhere taken for no.
    """
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpu_info().get("flags", "").split())


@cache
def cpu_info() -> dict[str, str]:
    """What Linux says of the first processor, such as its `model name` and its `flags`; nothing elsewhere."""
    with suppress(OSError):
        first = _CPU_INFO.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
        lines = (line.partition(":") for line in first.splitlines())
        return {key.strip(): value.strip() for key, _, value in lines}
    return {}
