"""What a training costs on this CPU beside a bare TRL script, in turns, on the demo's rows."""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ft_assets.engine.graph import upstream
from ft_assets.engine.project import Project

_WAYS = {"packed": (True, 2), "one_by_one": (False, 2)}
"""Packing, and rows in a batch: two of 512 tokens, and what is chosen for the demo."""
_TURNS = 3


def training() -> dict[str, Any]:
    """Trained tokens a CPU second and peak memory, with the same LoRA, rows, batches and steps.

    Loading the model is in neither figure. The bare script is what TRL's documentation shows, in fp32.
    """
    with tempfile.TemporaryDirectory() as scratch:
        project = Project(Path("data").absolute(), Path(scratch) / "storage")
        for asset in [*upstream("formatted_dataset"), "formatted_dataset"]:
            made = project.make("lighthouse", asset)
        folder = project.storage.folder("lighthouse", "formatted_dataset", made.manifest.version)
        return {way: _compared(folder, *how) for way, how in _WAYS.items()}


def _compared(dataset: Path, packing: bool, size: int) -> dict[str, Any]:
    found: dict[str, list[dict[str, float]]] = {"ours_bf16": [], "ours_fp32": [], "trl_fp32": []}
    for _ in range(_TURNS):
        for name, of in found.items():
            of.append(_run(name, str(dataset), str(int(packing)), str(size)))
    figures: dict[str, Any] = {
        name: {key: statistics.median(each[key] for each in of) for key in of[0]}
        for name, of in found.items()
    }
    for name in ("ours_bf16", "ours_fp32"):
        figures[f"ratio_{name.removeprefix('ours_')}"] = statistics.median(
            ours["tokens_a_cpu_s"] / theirs["tokens_a_cpu_s"]
            for ours, theirs in zip(found[name], found["trl_fp32"], strict=True)
        )
    return figures


def _run(*arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.train_once", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))
