"""A training that is killed at any moment, also inside a save, resumes to the same adapter, byte for byte."""

import ctypes
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ft_assets.stages.job import Job
from ft_assets.stages.training import checkpoints
from ft_assets.worker import JOB_FILE, run_job
from ft_assets_tests.conftest import Corpus
from ft_assets_tests.engine.test_crashes import in_a_fork
from ft_assets_tests.engine.test_incremental import DATA_HALF
from ft_assets_tests.kills import EVERY_KILL, served

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
MOMENTS = 200 if EVERY_KILL else 20
SETTINGS = """\
model: {{base: "{base}", lora: {{r: 4, lora_alpha: 8, lora_dropout: 0.1}}}}
training: {{num_train_epochs: 3, learning_rate: 1.0e-3, per_device_train_batch_size: 2,
           gradient_accumulation_steps: 2, max_length: 128, packing: false}}
export: {{gguf: []}}  # llama.cpp does not know the pico model's vocabulary
"""


def serve() -> None:
    """For each line of standard input, a folder with a job and when to die, runs the worker in a fork.

    Everything is imported once. A checkpoint is saved after every step. The answer is the exit code, the
    seconds and, if nothing was armed, the number of calls that changed the disk.
    """
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import pyarrow as pa
    import torch
    import trl  # noqa: F401
    from transformers import AutoModelForCausalLM, Trainer  # noqa: F401

    checkpoints.EVERY_SECONDS = 0.0
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    for line in sys.stdin:
        folder, call, seconds = json.loads(line)
        print(json.dumps(_run(Path(folder), call, seconds)), flush=True)


def _run(folder: Path, call: int, seconds: float) -> list[float]:
    def work() -> None:
        with (folder / "log").open("w") as log:
            os.dup2(log.fileno(), 2)
        shim = ctypes.CDLL(None)
        shim.crash_arm(ctypes.c_long(call or sys.maxsize))
        code = run_job(folder)
        calls = shim.crash_calls()
        shim.crash_arm(ctypes.c_long(0))
        (folder / "calls").write_text(str(calls))
        assert code == 0

    began = time.monotonic()
    child = in_a_fork(work)
    status = None
    while status is None:
        if seconds and time.monotonic() - began >= seconds:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        ended, code = os.waitpid(child, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if ended else None
        time.sleep(0.001)
    counted = folder / "calls"
    calls = int(counted.read_text()) if counted.exists() else 0
    return [status, time.monotonic() - began, calls]


Ask = Callable[..., tuple[int, float, int]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """`serve` in a process that has the shim."""
    with served(__name__, tmp_path_factory.mktemp("shim"), OMP_NUM_THREADS="1") as says:

        def ask(folder: Path, call: int = 0, seconds: float = 0.0) -> tuple[int, float, int]:
            code, spent, calls = says(str(folder), call, seconds)
            return code, spent, calls

        yield ask


@dataclass
class Training:
    """The job of an adapter in a folder, to be run by the server."""

    root: Path
    job: Job

    def begin(self, name: str) -> Path:
        """An empty folder with the job in it, whose checkpoints are still those of before."""
        folder = self.root / name
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "output").mkdir(parents=True)
        replace(self.job, output=folder / "output").dump(folder / JOB_FILE)
        return folder

    def forget(self) -> None:
        """Removes the checkpoints."""
        assert self.job.checkpoints
        shutil.rmtree(self.job.checkpoints, ignore_errors=True)


@pytest.fixture
def training(corpus: Corpus, pico_model: Path, tmp_path: Path) -> Training:
    corpus.settings(SETTINGS.format(base=pico_model))
    for asset in DATA_HALF:
        corpus.project.make(corpus.name, asset)
    job = replace(corpus.project.job(corpus.name, "adapter"), checkpoints=tmp_path / "kept" / "f")
    return Training(tmp_path, job)


def made(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "output").iterdir()}


def moments(calls: int, spent: float) -> Iterator[dict[str, Any]]:
    """When to kill: in turn before a call that changes the disk, most of them in saves, and at a time."""
    chance = random.Random(15)
    for number in range(MOMENTS):
        if number % 2:
            yield {"call": chance.randint(1, calls)}
        else:
            yield {"seconds": chance.uniform(0.3, 1.0) * spent}


def test_killed_at_any_moment_it_goes_on_to_the_same_adapter(
    server: Ask, training: Training
) -> None:
    first = training.begin("first")
    code, spent, calls = server(first)
    assert code == 0, (first / "log").read_text()
    wanted = made(first)
    steps = len(json.loads(wanted["loss_history.json"]))
    assert steps > 10
    resumed = []
    for moment in moments(calls, spent):
        training.forget()
        killed = server(training.begin("killed"), **moment)[0]
        assert killed in (0, -signal.SIGKILL), moment
        if killed == 0:  # it was at its end already
            continue
        folder = training.begin("resumed")
        code, _, _ = server(folder)
        said = (folder / "log").read_text()
        assert code == 0, said
        assert made(folder) == wanted, (moment, said)
        assert "is not whole" not in said, said
        resumed += [line for line in said.splitlines() if "resumed at step" in line]
        assert training.job.checkpoints
        assert len(list(training.job.checkpoints.iterdir())) == 1
    print(len(resumed), "of", MOMENTS, "went on:", *resumed, sep="\n")
    assert len(resumed) > MOMENTS // 3
    assert len(set(resumed)) > 3
