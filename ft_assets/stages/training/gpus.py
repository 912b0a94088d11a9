"""The GPUs that train: one, or one for each process, and what they can compute."""

import os

from ft_assets.errors import UserError
from ft_assets.stages.job import Report
from ft_assets.stages.models.precision import has_bfloat16


def use_gpus(processes: int, report: Report) -> None:
    """Hides all GPUs but the first if one process trains, and says so; call it before anything uses a GPU.

    With several, transformers would split each batch among them in a way that TRL refuses. Raises UserError if
    there are fewer GPUs than processes; without any, the processes train on the CPU.
    """
    import torch

    count = torch.cuda.device_count()
    if 0 < count < processes:
        raise UserError(
            f"compute.processes {processes}: {count} GPUs are visible, so at most as many processes: set it to {count} or null"
        )
    if count < 2 or processes > 1:
        return
    variable = "HIP_VISIBLE_DEVICES" if torch.version.hip else "CUDA_VISIBLE_DEVICES"
    first = os.environ.get(variable, "").split(",")[0].strip() or "0"
    os.environ[variable] = first
    report(
        f"{count} GPUs are visible, one is used: {first} ({variable} chooses another; "
        f"compute.processes: {count} in the owner's settings uses all)"
    )


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
