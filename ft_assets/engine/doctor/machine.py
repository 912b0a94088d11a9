"""Python, memory, disk and GPU."""

import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import psutil

from ft_assets.engine.doctor.line import Line
from ft_assets.engine.doctor.places import existing, storage
from ft_assets.stages.models.pinned_packages import cache_folder

_OLDEST_PYTHON = (3, 11)
_DEMO_MEMORY = 5.3 * 1024**3
_FREE_DISK = 5e9
_SECONDS = 20


def python() -> Line:
    """The version of Python, and the system."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < _OLDEST_PYTHON:
        return Line("Python", "missing", found, "the project needs Python 3.11 or newer", True)
    if sys.platform != "linux":
        return Line("Python", "note", found, "only Linux is tested")
    return Line("Python", "ok", found)


def memory() -> Line:
    """The memory of this machine."""
    total, free = psutil.virtual_memory().total, psutil.virtual_memory().available
    found = f"{total / 1024**3:.1f} GiB, {free / 1024**3:.1f} GiB available"
    if free < _DEMO_MEMORY:
        cost = "the demo takes up to 5.3 GiB: close other programs, or train a smaller model"
        return Line("memory", "note", found, cost)
    return Line("memory", "ok", found)


def disk() -> Line:
    """The room under the storage and under the cache."""
    free = {
        "storage": shutil.disk_usage(existing(storage())).free,
        "cache": shutil.disk_usage(existing(cache_folder())).free,
    }
    found = ", ".join(f"{bytes_ / 1e9:.0f} GB free for the {name}" for name, bytes_ in free.items())
    if min(free.values()) < _FREE_DISK:
        return Line(
            "disk", "note", found, "a merged model and its GGUF files take a few GB each time"
        )
    return Line("disk", "ok", found)


def gpu() -> Line:
    """The GPU by its driver's own program, and whether the installed torch can use it."""
    program = shutil.which("nvidia-smi")
    torch = _torch()
    if program is None:
        return Line("GPU", "optional", "no NVIDIA driver", f"training runs on the CPU ({torch})")
    query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run([program, *query], capture_output=True, text=True, timeout=_SECONDS)
    found = "; ".join(done.stdout.strip().splitlines())
    if done.returncode or not found:
        said = (done.stdout + done.stderr).strip().splitlines()
        return Line(
            "GPU",
            "note",
            f"nvidia-smi failed: {said[0] if said else 'no message'}",
            "training runs on the CPU until the driver works",
        )
    if torch.endswith("+cpu"):
        cost = f"training runs on the CPU: {torch} is the CPU build; install the CUDA build"
        return Line("GPU", "note", found, cost)
    return Line("GPU", "ok", f"{found}; {torch}")


def _torch() -> str:
    try:
        return f"torch {version('torch')}"
    except PackageNotFoundError:
        return "torch is not installed"
