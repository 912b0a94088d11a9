"""Processes that tests kill: at ten seeded points, or at all of them (`make test-kills`)."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]
_SHIM = Path(__file__).parent / "engine" / "crash_shim.c"

EVERY_KILL = os.environ.get("FT_ASSETS_TEST_KILLS") == "all"
SAMPLE = 10


def chosen(points: int, seed: str) -> list[int]:
    """The points, counted from 1, at which a process is killed; the same seed gives the same points."""
    numbers = range(1, points + 1)
    if EVERY_KILL or points <= SAMPLE:
        return list(numbers)
    return sorted(random.Random(seed).sample(numbers, SAMPLE))


@contextmanager
def served(module: str, folder: Path, **environment: str) -> Iterator[Callable[..., Any]]:
    """`serve` of a test module in a process with the shim that kills at a call that changes the disk.

    What is yielded sends it a list of arguments as a line of JSON, and returns its answer. The shim is
    built in `folder`.
    """
    shim = folder / "crash_shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, _SHIM, "-ldl"], check=True)
    own = {"LD_PRELOAD": str(shim), "TOKENIZERS_PARALLELISM": "false", **environment}
    with subprocess.Popen(
        [sys.executable, "-c", f"from {module} import serve; serve()"],
        cwd=_ROOT,
        env={**os.environ, **own},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        asks, says = process.stdin, process.stdout
        assert asks
        assert says

        def ask(*arguments: object) -> Any:
            asks.write(json.dumps(arguments) + "\n")
            asks.flush()
            return json.loads(says.readline())

        yield ask
