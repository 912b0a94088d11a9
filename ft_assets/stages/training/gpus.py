"""The GPU that trains: one, and what it can compute."""

import os

from ft_assets.stages.job import Report
from ft_assets.stages.models.precision import has_bfloat16


def use_one_gpu(report: Report) -> None:
    """Hides all GPUs but the first, and says so; call it before anything uses a GPU.

    With several, transformers would split each batch among them in a way that TRL refuses.
    """
    import torch

    count = torch.cuda.device_count()
    if count < 2:
        return
    variable = "HIP_VISIBLE_DEVICES" if torch.version.hip else "CUDA_VISIBLE_DEVICES"
    first = os.environ.get(variable, "").split(",")[0].strip() or "0"
    os.environ[variable] = first
    report(f"{count} GPUs are visible, one is used: {first} ({variable} chooses another)")


def say_emulation(precision: str, report: Report) -> None:
    """Says that the GPU only emulates the precision that is set."""
    import torch

    if precision != "bf16" or not torch.cuda.is_available():
        return
    if not has_bfloat16():
        report(
            f"training.precision bf16: {torch.cuda.get_device_name()} only emulates it, which is slow: auto "
            "would take fp16"
        )
