"""The machine that trains: its processor or GPU, and its memory. Found without torch, in milliseconds."""

import ctypes
import os
import platform
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ft_assets.stages.models.precision import (
    cpu_has_bfloat16,
    cpu_info,
    name_of,
    precision_of,
)
from ft_assets.stages.words import memory_of

_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""What a container allows (cgroups, version 2 and 1)."""


@dataclass(frozen=True)
class Machine:
    """What trains here: a GPU, or the processor. `memory` is its own, in bytes."""

    name: str
    memory: int
    is_gpu: bool
    cores: int

    def __str__(self) -> str:
        what = f"of the GPU ({self.name})" if self.is_gpu else "of this machine"
        return f"{memory_of(self.memory)} {what}"


@cache
def this_machine() -> Machine:
    """The first visible GPU if the installed torch can use it, else the processor."""
    return _gpu() or Machine(f"{_processor()}, {_cores()} cores", _memory(), False, _cores())


def precision_here(setting: str, machine: Machine) -> str:
    """What `training.precision` becomes on this machine: fp32, bf16 or fp16.

    `precision_of` decides. For a GPU it needs torch: until that is imported, `auto` is taken for what it is
    on most.
    """
    if setting != "auto":
        return setting
    if sys.modules.get("torch"):
        return name_of(precision_of(setting))
    return "bf16" if machine.is_gpu or cpu_has_bfloat16() else "fp32"


def _processor() -> str:
    return cpu_info().get("model name") or platform.processor() or platform.machine()


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> int:
    """The memory of this machine, or less if a container allows less."""
    import psutil

    found = [psutil.virtual_memory().total]
    for path in _LIMITS:
        with suppress(OSError, ValueError):  # "max" if there is no limit
            found.append(int(path.read_text()))
    return min(found)


class _Memory(ctypes.Structure):
    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


def _gpu() -> Machine | None:
    """The first visible NVIDIA GPU, by the driver's own library; None if torch will not use one."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if visible in ("", "-1") or _torch_is_for_cpus():
        return None
    try:
        driver = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    handle, name, memory = ctypes.c_void_p(), ctypes.create_string_buffer(96), _Memory()
    index = int(visible) if visible.isdecimal() else 0
    calls: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("nvmlInit_v2", ()),
        ("nvmlDeviceGetHandleByIndex_v2", (index, ctypes.byref(handle))),
        ("nvmlDeviceGetName", (handle, name, len(name))),
        ("nvmlDeviceGetMemoryInfo", (handle, ctypes.byref(memory))),
    )
    for call, arguments in calls:
        if driver[call](*arguments):  # the number of an error
            return None
    return Machine(name.value.decode(errors="replace"), int(memory.total), True, 1)


def _torch_is_for_cpus() -> bool:
    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False
