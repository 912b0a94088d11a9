"""Every training leaves TensorBoard files and tells its trackers; whatever happens to those, it continues."""

import getpass
import json
import os
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets.config import LoraSettings, TrainingConfig
from ft_assets.errors import UserError
from ft_assets.extras import EXTRAS, missing
from ft_assets.stages.job import Job
from ft_assets.stages.training import run_log, trackers
from ft_assets.stages.training.run_log import (
    Logged,
    RunLog,
    logged_settings,
    look_at,
    metrics_of,
)
from ft_assets.stages.training.tracker_process import without_secrets
from ft_assets_tests.stages.training.test_resuming import Trainings, dataset, interrupt_at_a_step

__all__ = ["dataset"]
FINGERPRINT = "3f" * 10
with_tensorboard = pytest.mark.skipif(
    find_spec("tensorboard") is None, reason="tensorboard is not installed"
)


class Logs:
    """Logs of trainings of one fingerprint, and what was said of them."""

    def __init__(self, root: Path) -> None:
        self.runs = root / "runs" / FINGERPRINT
        self.said: list[str] = []

    def log(self, *names: str, base: str = "some/model") -> RunLog:
        shown = logged_settings(base, LoraSettings(), TrainingConfig(), {"train_rows": 3})
        return RunLog(Logged("ferry", self.runs, names, shown), self.said.append)

    def write(self, *names: str, first: int = 1, steps: int = 3, base: str = "some/model") -> None:
        """Logs the loss after each of some steps: one divided by the step."""
        with self.log(*names, base=base) as log:
            log.begin(first - 1)
            for step in range(first, first + steps):
                log.add(step, {"train/loss": 1 / step})

    def warnings(self) -> list[str]:
        return [line for line in self.said if "warning" in line]

    def scalars(self, name: str = "train/loss") -> list[list[tuple[float, Any]]]:
        """What TensorBoard shows of a metric, of each training in order."""
        return [scalars(folder, name) for folder in sorted(self.runs.iterdir())]


def scalars(folder: Path, name: str) -> list[tuple[float, Any]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return [(event.step, event.value) for event in found.Scalars(name)]


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return Logs(tmp_path)


@with_tensorboard
def test_each_training_has_a_log_and_one_that_is_resumed_continues_its_own(logs: Logs) -> None:
    logs.write(steps=4)
    logs.write(first=3, steps=3)  # resumed from the checkpoint after step 2
    logs.write(steps=2)
    both = [
        [(step, pytest.approx(1 / step)) for step in steps] for steps in ([1, 2, 3, 4, 5], [1, 2])
    ]
    assert logs.scalars() == both
    assert f"tensorboard --logdir {logs.runs.parent}" in logs.said[0]
    assert logs.warnings() == []


@pytest.mark.slow
@with_tensorboard
def test_a_resumed_training_is_logged_once_and_is_the_same_as_without_a_log(
    tmp_path: Path, pico_model: Path, dataset: Path, logs: Logs
) -> None:
    changes: dict[str, Any] = {"gradient_accumulation_steps": 1}
    whole = Trainings(tmp_path, pico_model, dataset).run("whole", **changes)
    trainings = Trainings(tmp_path, pico_model, dataset)
    with logs.log() as log, pytest.raises(KeyboardInterrupt):
        trainings.run("a", log=log, on_line=interrupt_at_a_step, **changes)
    with logs.log() as log:
        assert trainings.run("b", log=log, **changes) == whole
    [loss] = logs.scalars()
    assert loss == _of(whole[0], "loss")
    [eval_loss] = logs.scalars("eval/loss")
    assert eval_loss == _of(whole[0], "eval_loss")
    for name in ("learning_rate", "grad_norm", "tokens_per_second"):
        [values] = logs.scalars(f"train/{name}")
        assert [step for step, _ in values] == [step for step, _ in loss]
        assert all(value >= 0 for _, value in values)


def _of(history: list[dict[str, float]], name: str) -> list[tuple[float, Any]]:
    return [(entry["step"], pytest.approx(entry[name])) for entry in history if name in entry]


def test_without_tensorboard_the_training_continues_and_it_is_said_once(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.startswith(("tensorboard", "torch.utils.tensorboard")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    logs.write()
    assert len(logs.said) == 1
    assert "tensorboard is not installed" in logs.said[0]


def test_a_log_that_cannot_be_written_is_said_once(logs: Logs) -> None:
    logs.runs.parent.write_text("not a folder")
    logs.write()
    assert len(logs.said) == 1
    assert "the log of this training is not complete" in logs.said[0]


@given(
    st.dictionaries(
        st.sampled_from(["step", "epoch", "loss", "eval_loss", "train_loss", "entropy"]),
        st.one_of(st.floats(), st.integers(-5, 5), st.text(max_size=3), st.none()),
    )
)
def test_what_is_logged_are_finite_numbers(entry: dict[str, Any]) -> None:
    found = metrics_of(entry)
    assert all(isinstance(value, float) and abs(value) < float("inf") for value in found.values())
    assert found.keys() <= {"train/loss", "eval/loss", "train/entropy"}
    if isinstance(entry.get("eval_loss"), int):
        assert found["eval/loss"] == entry["eval_loss"]


def test_a_folder_of_any_name_is_quoted(tmp_path: Path) -> None:
    assert look_at(tmp_path / "a b") == f"tensorboard --logdir '{tmp_path}/a b'"


def test_no_path_of_the_base_model_and_no_name_of_a_tracker_is_shown(tmp_path: Path) -> None:
    training = TrainingConfig(report_to=["wandb"], learning_rate=1e-3)
    shown = logged_settings(str(tmp_path / "nano"), LoraSettings(), training, {"train_rows": 3})
    assert shown["base"] == "nano"
    assert shown["learning_rate"] == 1e-3
    assert shown["lora.r"] == 16
    assert not {"report_to", "packing"} & shown.keys()
    assert logged_settings("org/model", LoraSettings(), training, {})["base"] == "org/model"


def test_what_a_tracker_says_of_its_error_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "canary-key")
    error = ValueError("401 for canary-key at https://me:canary@host/api\nmore")
    assert without_secrets(error) == "401 for … at https://…@host/api"
    assert without_secrets(SystemExit()) == "SystemExit"


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_tracker_that_is_not_installed_is_named_before_anything_is_loaded(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ft_assets.stages import adapter

    monkeypatch.setitem(EXTRAS, name, ("no_such_module",))
    means = {"training.report_to": [name], "model.base": "no/model"}
    job = Job("adapter", "c", tmp_path, tmp_path, {}, {"formatted_dataset": tmp_path}, means=means)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=rf"report_to: {name} needs the extra.*pip install"):
        adapter.build(job, print)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """An address at which somebody listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def refusing_server() -> Iterator[str]:
    """The address of a server that knows no key."""

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(401)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST  # noqa: N815 (the name that the library looks for)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("happens", ["hangs", "dies"])
def test_a_tracker_that_hangs_or_dies_delays_no_step_and_is_ended(
    logs: Logs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, happens: str
) -> None:
    """The library is replaced by one that does what a network can do to it, with a process of its own."""
    (tmp_path / "wandb.py").write_text(
        "import os, pathlib, subprocess, sys, time\n"
        "print('noise', flush=True)\n"
        f"pids = pathlib.Path({str(tmp_path / 'pids')!r})\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "pids.write_text(f'{os.getpid()} {other.pid}')\n"
        + ("time.sleep(600)\n" if happens == "hangs" else "os._exit(3)\n")
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(run_log, "FINISH_SECONDS", 2.0)
    with logs.log("wandb") as log:
        log.begin(0)
        while not (tmp_path / "pids").exists():
            time.sleep(0.05)
        began = time.monotonic()
        for step in range(3_000):  # more than a pipe holds
            log._trackers[0].add(step, {"train/loss": 1.0, "train/learning_rate": 1e-4})
        assert time.monotonic() - began < 1.0
    assert time.monotonic() - began < 6.0
    assert len(logs.warnings()) == 1
    assert "Weights & Biases does not get everything" in logs.warnings()[0]
    for pid in (tmp_path / "pids").read_text().split():
        assert not _runs(int(pid))


def _runs(pid: int) -> bool:
    import psutil

    for _ in range(40):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return False
        except psutil.NoSuchProcess:
            return False
        time.sleep(0.05)
    return True


needs = {
    name: pytest.mark.skipif(bool(missing(name)), reason=f"the extra {name} is not installed")
    for name in ("wandb", "mlflow", "trackio")
}


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What must not be in what a tracker stores; no tracker is named by the environment."""
    for name in list(os.environ):
        if name.startswith(("WANDB_", "MLFLOW_", "TRACKIO_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_TOKEN", "canary-hub-token")
    monkeypatch.setenv("OPENAI_API_KEY", "canary-openai")
    return ["canary", "secret-place", sys.executable, f"{getpass.getuser()}@"]


def _stored(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
@needs["wandb"]
def test_wandb_offline(
    logs: Logs, private: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", "canary" + "0" * 34)
    logs.write("wandb", base=str(tmp_path / "secret-place" / "nano"))
    assert logs.warnings() == []
    [folder] = [Path(line.split()[-1]) for line in logs.said if "wandb sync" in line]
    assert folder.is_relative_to(logs.runs)
    [file] = folder.glob("*.wandb")
    stored = file.read_bytes()
    for shown in ("ft-assets", "ferry-3f3f3f3f-", "train/loss", "lora.r", "nano", "adamw_torch"):
        assert shown.encode() in stored
    for word in (*private, socket.gethostname() if len(socket.gethostname()) > 3 else "canary"):
        assert word.encode() not in stored
    assert not list(folder.glob("files/*"))


@pytest.mark.slow
@needs["wandb"]
def test_wandb_that_refuses_the_key_logs_offline(
    logs: Logs, private: list[str], monkeypatch: pytest.MonkeyPatch, refusing_server: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "canary" + "0" * 34)
    monkeypatch.setenv("WANDB_BASE_URL", refusing_server)
    logs.write("wandb")
    assert logs.warnings() == []
    assert any("cannot be reached" in line for line in logs.said)
    assert any("wandb sync" in line for line in logs.said)
    assert "canary" not in "".join(logs.said)


@pytest.mark.slow
@needs["mlflow"]
def test_mlflow_without_a_server(logs: Logs, private: list[str], tmp_path: Path) -> None:
    logs.write("mlflow", base=str(tmp_path / "secret-place" / "nano"))
    logs.write("mlflow", first=4, steps=1)  # resumed
    assert logs.warnings() == []
    with sqlite3.connect(logs.runs.parent / "mlflow.db") as database:
        [(name, user, status)] = database.execute("select name, user_id, status from runs")
        values = database.execute("select step, value from metrics order by step").fetchall()
        params = dict(database.execute("select key, value from params"))
    assert name.startswith("ferry-3f3f3f3f-")
    assert (user, status) == ("unknown", "FINISHED")
    assert values == [(step, pytest.approx(1 / step)) for step in (1, 2, 3, 4)]
    assert params["base"] == "nano"
    assert params["lora.r"] == "16"
    for word in private:
        assert word.encode() not in _stored(logs.runs.parent)


@pytest.mark.slow
@needs["mlflow"]
def test_a_server_that_never_answers_is_given_up(
    logs: Logs, private: list[str], monkeypatch: pytest.MonkeyPatch, silent_server: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", silent_server.replace("//", "//me:canary@"))
    monkeypatch.setattr(run_log, "FINISH_SECONDS", 8.0)
    began = time.monotonic()
    logs.write("mlflow")
    assert time.monotonic() - began < 20
    assert len(logs.warnings()) == 1
    assert "canary" not in logs.warnings()[0]


@pytest.mark.slow
@needs["trackio"]
def test_trackio_on_this_machine(
    logs: Logs, private: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    logs.write("trackio", base=str(tmp_path / "secret-place" / "nano"))
    logs.write("trackio", first=4, steps=1)
    assert logs.warnings() == []
    with sqlite3.connect(tmp_path / "trackio" / "ft-assets.db") as database:
        rows = database.execute(
            "select run_name, step, metrics from metrics order by step"
        ).fetchall()
    assert {name for name, _, _ in rows} == {
        name for name, _, _ in rows if name.startswith("ferry-")
    }
    assert [(step, json.loads(text)["train/loss"]) for _, step, text in rows] == [
        (step, pytest.approx(1 / step)) for step in (1, 2, 3, 4)
    ]
    for word in private:
        assert word.encode() not in _stored(tmp_path / "trackio")


def test_all_trackers_have_a_name_and_an_extra() -> None:
    assert trackers.NAMES.keys() == {"wandb", "mlflow", "trackio"} <= EXTRAS.keys()
