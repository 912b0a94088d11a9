"""A training that was interrupted resumes to the same adapter; a checkpoint that does not fit is not used."""

import json
import re
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ft_assets.config import LoraSettings, ModelConfig, TrainingConfig
from ft_assets.errors import StageError
from ft_assets.files import hash_file
from ft_assets.manifest import digest
from ft_assets.records import Example
from ft_assets.stages.models.base_model import BaseModel
from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager
from ft_assets.stages.training import interruption
from ft_assets.stages.training.checkpoints import Checkpoints, kept_steps
from ft_assets.stages.training.held_out import best_evaluation
from ft_assets.stages.training.run_log import RunLog
from ft_assets.stages.training.sft import train
from ft_assets.tables import write_table
from ft_assets_tests.stages.test_adapter import SETTINGS

MADE_WITH = {"torch": "2.13.0", "device": "cpu"}
History = list[dict[str, float]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, pico_model: Path) -> Path:
    """Rows of different lengths, so that batches are padded; the held-out ones say something else, so that
    the best step is not the last."""
    folder = tmp_path_factory.mktemp("dataset")
    tokenizer = tokenizer_of(pico_model)
    manager = PromptTemplateManager(tokenizer)
    rows = []
    for n in range(16):
        question = f"What is in crate {n}?" + " Say." * (n % 5)
        answer = f"{n * 7} pears." if n < 14 else "Zzz! Qqq! Xxx! Kkk!"
        segments = manager.format(
            [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
        ).segments
        rows.append(Example(str(n), "record", segments, "d", "s", 0, 0, "g", 0, 0, 0, False))
    write_table(folder / "train.parquet", Example, rows[:14])
    write_table(folder / "eval.parquet", Example, rows[14:])
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder


class Trainings:
    """Trainings of one model on one dataset, each in an output folder of its own."""

    def __init__(self, root: Path, base: Path, dataset: Path) -> None:
        self.kept = root / "kept" / "fingerprint"
        self._root, self._base, self._dataset = root, base, dataset
        self.said: list[str] = []

    def run(
        self,
        name: str,
        *,
        on_line: Callable[[str], None] = lambda line: None,
        every: float | None = None,
        made_with: dict[str, str] = MADE_WITH,
        log: RunLog | None = None,
        **changes: Any,
    ) -> tuple[History, str]:
        """The history, and the digest of the weights."""
        self.said = []

        def report(line: str) -> None:
            self.said.append(line)
            on_line(line)

        history = train(
            BaseModel("pico", "1", self._base),
            self._dataset,
            ModelConfig(lora=LoraSettings(r=4, lora_alpha=8, lora_dropout=0.1)),
            TrainingConfig.model_validate({**SETTINGS, **changes}),
            self._root / name,
            report,
            2,
            Checkpoints(self.kept, made_with, report, every),
            log,
        )
        return history, hash_file(self._root / name / "adapter_model.safetensors")

    def interrupt(self, name: str, **options: Any) -> None:
        """Starts a training that is interrupted in its second step."""
        with pytest.raises(KeyboardInterrupt):
            self.run(name, on_line=interrupt_at_a_step, **options)

    def warnings(self) -> list[str]:
        return [line for line in self.said if "checkpoint" in line]


def interrupt_at_a_step(line: str) -> None:
    """Ctrl-C at the first step that is reported, twice, as it reaches a worker."""
    if re.match(r"step \d+/\d+  loss", line):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


@pytest.fixture
def trainings(tmp_path: Path, pico_model: Path, dataset: Path) -> Trainings:
    return Trainings(tmp_path, pico_model, dataset)


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, pico_model: Path, dataset: Path
) -> tuple[History, str]:
    """A training that nothing interrupted."""
    return Trainings(tmp_path_factory.mktemp("whole"), pico_model, dataset).run("whole")


@pytest.mark.parametrize(
    "changes",
    [
        {
            "num_train_epochs": 2.5,
            "gradient_accumulation_steps": 3,
            "warmup_steps": 1,
            "learning_rate": 0.02,
            "eval_strategy": "steps",
            "eval_steps": 1,
            "load_best_model_at_end": True,
        },
        pytest.param(
            {"num_train_epochs": 8.0, "per_device_train_batch_size": 2, "packing": True},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["padded", "packed"],
)
def test_interrupted_again_and_again_it_comes_to_the_same_end(
    trainings: Trainings, changes: dict[str, Any]
) -> None:
    whole = trainings.run("whole", **changes)
    shutil.rmtree(trainings.kept, ignore_errors=True)
    steps = int(whole[0][-1]["step"])
    best = best_evaluation(whole[0])
    assert best
    assert best["step"] < steps or "load_best_model_at_end" not in changes
    done = [0]
    while (at := done[-1]) + 2 < steps:
        trainings.interrupt("broken", **changes)
        assert at == 0 or f"resumed at step {at} of {steps}" in trainings.said
        done.append(at + 2)
        assert kept_steps(trainings.kept) == f"{at + 2} of {steps} steps"
        assert f"interrupted after step {at + 2}/{steps}" in trainings.said
    assert len(done) > 2
    assert trainings.run("broken", **changes) == whole


def interrupt_and_wait(asks: int) -> None:
    said: list[str] = []
    with interruption.Interruption(said.append) as asking:
        for _ in range(asks):
            time.sleep(0.1)
            signal.raise_signal(signal.SIGINT)
            assert asking.asked
        time.sleep(30)


@pytest.mark.parametrize(("name", "asks"), [("_SAME_SECONDS", 2), ("_GRACE_SECONDS", 1)])
def test_a_second_ctrl_c_or_a_step_without_end_interrupts_at_once(
    monkeypatch: pytest.MonkeyPatch, name: str, asks: int
) -> None:
    monkeypatch.setattr(interruption, name, 0.05)
    with pytest.raises(KeyboardInterrupt):
        interrupt_and_wait(asks)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_checkpoints_are_saved_by_time_and_only_the_last_is_kept(
    trainings: Trainings, whole: tuple[History, str]
) -> None:
    assert trainings.run("quick") == whole
    assert not trainings.kept.exists()
    assert trainings.run("saving", every=0.0) == whole
    assert [path.name for path in trainings.kept.iterdir()] == ["step-00000001"]
    assert trainings.run("resumed") == whole


def write(folder: Path) -> None:
    for each in ("trained.safetensors", "optimizer.pt"):
        (folder / each).write_text(f"{each} of a model")


def test_a_checkpoint_of_other_versions_is_not_used(tmp_path: Path) -> None:
    said: list[str] = []
    Checkpoints(tmp_path / "kept", MADE_WITH, said.append).save(1, 2, 100, write)
    other = {"torch": "2.14.0", "device": "cpu"}
    assert Checkpoints(tmp_path / "kept", other, said.append).last() is None
    assert said == ["the checkpoint at 1 of 2 is not used: it has torch 2.13.0, not 2.14.0"]
    assert not list((tmp_path / "kept").iterdir())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
@pytest.mark.parametrize("name", ["trained.safetensors", "optimizer.pt", "checkpoint.json"])
def test_a_damaged_checkpoint_is_skipped(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    said: list[str] = []
    checkpoints = Checkpoints(tmp_path / "kept", MADE_WITH, said.append)
    checkpoints.save(3, 9, 100, write)
    found = checkpoints.last()
    assert found
    assert (found.step, found.steps) == (3, 9)
    damage(found.folder / name)
    assert Checkpoints(tmp_path / "kept", MADE_WITH, said.append).last() is None
    assert said == ["the checkpoint step-00000003 is not whole, so it is not used"]
    assert not list((tmp_path / "kept").iterdir())


class Harm:
    """What unpickling would run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def put_in(folder: Path, name: str, harm: Harm) -> None:
    """Makes a pickle with code the file of a checkpoint, with a digest that is right."""
    import torch

    torch.save(harm, folder / name)
    contents = json.loads((folder / "checkpoint.json").read_text())
    del contents["digest"]
    contents["files"][name] = hash_file(folder / name)
    sealed = {**contents, "digest": digest(contents)}
    (folder / "checkpoint.json").write_text(json.dumps(sealed))


def test_no_code_of_a_pickle_is_run(trainings: Trainings, tmp_path: Path) -> None:
    trainings.run("saving", every=0.0)
    whole = trainings.kept.rename(tmp_path / "whole")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        shutil.rmtree(trainings.kept, ignore_errors=True)
        shutil.copytree(whole, trainings.kept)
        [folder] = trainings.kept.iterdir()
        put_in(folder, name, Harm(tmp_path / "harmed"))
        with pytest.raises(StageError, match="remove this folder and refresh again"):
            trainings.run("resumed")
        assert not (tmp_path / "harmed").exists()


def test_on_a_full_disk_the_training_goes_on_without_a_checkpoint(
    trainings: Trainings, whole: tuple[History, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(trainings.kept.parent.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    assert trainings.run("full", every=0.0) == whole
    [line] = trainings.warnings()
    assert f"no checkpoint after step 1 in {trainings.kept} (no space: 1.0 MB are free" in line
    assert "the training goes on" in line
    assert not list(trainings.kept.iterdir())


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_cannot_be_written_whole_is_none(tmp_path: Path) -> None:
    import torch

    said: list[str] = []
    checkpoints = Checkpoints(tmp_path / "kept", MADE_WITH, said.append)
    checkpoints.save(1, 9, 100, lambda folder: torch.save({}, folder / "optimizer.pt"))
    large = {"state": torch.zeros(100_000)}
    with no_file_larger_than(100_000):
        for step in (2, 3):
            checkpoints.save(step, 9, 0, lambda folder: torch.save(large, folder / "optimizer.pt"))
    [line] = said
    assert "no checkpoint after step 2" in line
    assert kept_steps(tmp_path / "kept") == "1 of 9 steps"
    assert len(list((tmp_path / "kept").iterdir())) == 1
