"""Where the figures in docs/benchmarks.md come from: ratios of two things measured in the same run.

`make bench` runs all; `python -m benchmarks.run NAME…` runs those of imports, training, incremental, growth,
loop, status, documents, splitting, rows, pairs and gguf. Results are printed and written to
benchmarks/results.json.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.documents import extraction
from benchmarks.edit_loop import edit_loop
from benchmarks.gguf import gguf_files
from benchmarks.incremental import growth, one_of_a_thousand, status_of_a_hundred
from benchmarks.pairs import pairs
from benchmarks.rows import a_million_rows
from benchmarks.splitting import splitting
from benchmarks.training import training

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"


def cpu_seconds(code: str) -> float:
    """The CPU time of a fresh Python process that runs `code`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def imports() -> dict[str, float]:
    """CPU time of `import ft_assets.definitions` against `import dagster`, in turns."""
    codes = {"ours": "import ft_assets.definitions", "dagster": "import dagster"}
    for code in codes.values():
        cpu_seconds(code)
    seconds: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(7):
        for name, code in codes.items():
            seconds[name].append(cpu_seconds(code))
    pairs = zip(seconds["ours"], seconds["dagster"], strict=True)
    return {
        "import_definitions_cpu_s": statistics.median(seconds["ours"]),
        "import_dagster_cpu_s": statistics.median(seconds["dagster"]),
        "ratio": statistics.median(ours / dagster for ours, dagster in pairs),
    }


def main() -> None:
    """Runs the benchmarks that are named, or all."""
    known = {
        "imports": imports,
        "training": training,
        "incremental": one_of_a_thousand,
        "growth": growth,
        "loop": edit_loop,
        "documents": extraction,
        "status": status_of_a_hundred,
        "rows": a_million_rows,
        "splitting": splitting,
        "pairs": pairs,
        "gguf": gguf_files,
    }
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in sys.argv[1:] or known:
        began = time.monotonic()
        results[name] = {
            **known[name](),
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        }
        print(name, json.dumps(results[name], indent=1), f"({time.monotonic() - began:.0f} s)")
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
