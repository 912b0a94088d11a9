"""Several processes train what one does: the same losses, the same rows in each update, one adapter."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets.config import LoraSettings, ModelConfig, TrainingConfig
from ft_assets.errors import StageError, UserError
from ft_assets.stages.models.base_model import BaseModel
from ft_assets.stages.training.processes import ERROR, _error, run_in_processes
from ft_assets.stages.training.run_log import Logged
from ft_assets.stages.training.sft import losses_of
from ft_assets.stages.training.shares import share_of
from ft_assets.stages.training.work import Trained, Work
from ft_assets_tests.stages.test_adapter import SETTINGS
from ft_assets_tests.stages.training.test_resuming import MADE_WITH, dataset

__all__ = ["dataset"]


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 8))
def test_an_update_has_the_same_rows_or_is_refused(batch: int, steps: int, processes: int) -> None:
    settings = TrainingConfig(per_device_train_batch_size=batch, gradient_accumulation_steps=steps)
    if batch * steps % processes:
        with pytest.raises(UserError, match=f"{batch * steps} rows of each update"):
            share_of(settings, processes)
        return
    share = share_of(settings, processes)
    assert share.per_device_train_batch_size
    rows = share.per_device_train_batch_size * share.gradient_accumulation_steps * processes
    assert rows == batch * steps
    assert share.per_device_train_batch_size <= batch


def test_what_failed_first_is_told_not_what_followed_from_it(tmp_path: Path) -> None:
    def failed(rank: int, message: str, known: bool = False) -> None:
        said = {"message": message, "is_known": known, "is_user_error": known}
        (tmp_path / ERROR.format(rank)).write_text(json.dumps(said))

    assert "one of the training's processes died" in str(_error(tmp_path))
    failed(0, "RuntimeError: [gloo] Connection closed by peer [127.0.0.1]:1234")
    assert "one of the training's processes died" in str(_error(tmp_path))
    failed(1, "KeyError: 'surprise'")
    assert str(_error(tmp_path)) == "KeyError: 'surprise'"
    failed(2, "lower the rate", known=True)
    error = _error(tmp_path)
    assert isinstance(error, UserError)
    assert str(error) == "lower the rate"


class Trainings:
    """Trainings of one model on one dataset; all have the same checkpoints and logs."""

    def __init__(self, root: Path, base: Path, dataset: Path) -> None:
        self.root, self._base, self._dataset = root, base, dataset
        self.said: list[str] = []

    def run(
        self,
        name: str,
        processes: int,
        on_line: Callable[[str], None] = lambda line: None,
        **changes: Any,
    ) -> Trained:
        def report(line: str) -> None:
            self.said.append(line)
            on_line(line)

        work = Work(
            BaseModel("pico", "1", self._base),
            self._dataset,
            ModelConfig(lora=LoraSettings(r=4, lora_alpha=8, lora_dropout=0.0)),
            TrainingConfig.model_validate({**SETTINGS, **changes}),
            self.root / name,
            2,
            self.root / "checkpoints",
            {**MADE_WITH, "processes": str(processes)},
            Logged("ferry", self.root / "runs" / ("3f" * 10), (), {}),
        )
        work.output.mkdir()
        self.said = []
        return run_in_processes(work, processes, report) if processes > 1 else work.run(report)


@pytest.fixture
def trainings(tmp_path: Path, pico_model: Path, dataset: Path) -> Trainings:
    return Trainings(tmp_path, pico_model, dataset)


@contextmanager
def no_process_left() -> Iterator[None]:
    """Fails if this process has more descendants afterwards."""
    before = set(psutil.Process().children(recursive=True))
    yield
    for _ in range(100):
        left = set(psutil.Process().children(recursive=True)) - before
        if not left:
            return
        time.sleep(0.1)
    raise AssertionError(left)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {  # 16 rows in updates of 8
            "eval_strategy": "steps",
            "eval_steps": 1,
            "early_stopping_patience": 1,
            "load_best_model_at_end": True,
        },
        {"per_device_train_batch_size": 6, "num_train_epochs": 2.0},  # the last update has 4 rows
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 6},
        {"packing": True, "gradient_accumulation_steps": 1},
    ],
)
def test_two_processes_give_the_losses_of_one(trainings: Trainings, changes: Any) -> None:
    from safetensors.numpy import load_file

    with no_process_left():
        one = trainings.run("one", 1, **changes)
        two = trainings.run("two", 2, **changes)
    assert len(losses_of(one.history)) >= 2
    assert losses_of(two.history) == pytest.approx(losses_of(one.history), abs=1e-5)
    for key in ("eval_loss", "learning_rate", "grad_norm", "step", "epoch"):
        values = [[each[key] for each in run.history if key in each] for run in (one, two)]
        assert values[1] == pytest.approx(values[0], abs=1e-3)
    assert len(losses_of(two.history)) == len(
        {each["step"] for each in two.history if "loss" in each}
    )
    files = [{path.name for path in (trainings.root / name).iterdir()} for name in ("one", "two")]
    assert files[0] == files[1] >= {"adapter_model.safetensors", "rehearsed.jsonl"}
    weights = [
        load_file(trainings.root / name / "adapter_model.safetensors") for name in ("one", "two")
    ]
    assert weights[0].keys() == weights[1].keys()
    for name, each in weights[0].items():
        assert each == pytest.approx(weights[1][name], abs=2e-4)
    steps = [line for line in trainings.said if re.match(r"step \d+/\d+  loss", line)]
    assert len(steps) == len(set(steps)), "only one process reports"
    assert any(re.match(r"training: \d+ steps of \d+ rows", line) for line in trainings.said)


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_after_the_step_and_they_resume(trainings: Trainings) -> None:
    changes: dict[str, Any] = {"gradient_accumulation_steps": 1, "num_train_epochs": 4.0}
    whole = trainings.run("whole", 2, **changes)

    def interrupt(line: str) -> None:
        if re.match(r"step 1/", line):
            os.kill(os.getpid(), signal.SIGINT)

    with no_process_left(), pytest.raises(KeyboardInterrupt):
        trainings.run("a", 2, on_line=interrupt, **changes)
    assert any(re.match(r"interrupted after step \d+/16", line) for line in trainings.said)
    resumed = trainings.run("b", 2, **changes)
    assert any(line.startswith("resumed at step") for line in trainings.said)
    assert resumed.history == whole.history
    made = [
        (trainings.root / name / "adapter_model.safetensors").read_bytes()
        for name in ("whole", "b")
    ]
    assert made[0] == made[1]


@pytest.mark.slow
def test_a_process_that_dies_ends_the_training_with_its_reason(trainings: Trainings) -> None:
    def kill(line: str) -> None:
        if re.match(r"step 1/", line):
            ranks = [
                process
                for process in psutil.Process().children(recursive=True)
                if "ft_assets.stages.training.rank" in process.cmdline()[-4:]
                and "accelerate.commands.launch" not in process.cmdline()
            ]
            assert len(ranks) == 2
            ranks[1].kill()

    began = time.monotonic()
    with no_process_left(), pytest.raises(StageError, match="one of the training's processes died"):
        trainings.run("a", 2, on_line=kill, num_train_epochs=50.0, gradient_accumulation_steps=1)
    assert time.monotonic() - began < 90


@pytest.mark.slow
def test_an_error_of_all_processes_is_told_as_one_message(trainings: Trainings) -> None:
    with no_process_left(), pytest.raises(UserError, match="needs a GPU"):
        trainings.run("a", 2, precision="fp16")
    assert threading.active_count() < 20
