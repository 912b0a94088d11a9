"""The log of a training: TensorBoard files always, and the trackers that the owner names.

    <runs>/2026-11-27_14-03-22/     one training; `runs` belongs to one fingerprint (`engine/storage.py`)

It is in no artifact, because it holds times. A training that is resumed from a checkpoint continues its log.
Whatever goes wrong here is said once; the training does not wait for it.
"""

import json
import math
import secrets
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_assets.config import LoraSettings, TrainingConfig
from ft_assets.files import visible
from ft_assets.manifest import Settings
from ft_assets.stages.job import Report
from ft_assets.stages.models.base_model import is_local
from ft_assets.stages.training.trackers import FINISH_SECONDS, HURRIED_SECONDS, Run, Tracker

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter
    from transformers import TrainerCallback

_RUN = "run.json"
Metrics = dict[str, float]


@dataclass(frozen=True)
class Logged:
    """What a log says about its training: whose it is, where it is, and with which settings it runs."""

    corpus: str
    runs: Path
    trackers: tuple[str, ...]
    settings: Settings


def logged_settings(
    base: str, lora: LoraSettings, training: TrainingConfig, counts: Mapping[str, float]
) -> Settings:
    """The settings that a tracker shows: those that TRL and PEFT know, and of a local base its name."""
    own = training.model_dump(exclude={"report_to"})
    return {
        "base": Path(base).name if is_local(base) else base,
        **{key: value for key, value in own.items() if value is not None},
        **{f"lora.{key}": value for key, value in lora.model_dump().items() if value is not None},
        **counts,
    }


class RunLog:
    """Passes the metrics of a training on. `begin` opens it, the end of the `with` block closes it."""

    def __init__(self, logged: Logged, report: Report) -> None:
        self._logged = logged
        self._report = report
        self._tensorboard: SummaryWriter | None = None
        self._trackers: list[Tracker] = []

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.end(
            "finished"
            if kind is None
            else "failed"
            if issubclass(kind, Exception)
            else "interrupted"
        )

    def begin(self, step: int) -> None:
        """Opens the log: that of the training that is resumed after `step`, a new one if that is 0."""
        try:
            folder = _folder(self._logged.runs, resumed=step > 0)
            run = _run(folder, self._logged)
            self._open_tensorboard(folder, step)
            for name in self._logged.trackers:
                self._trackers.append(Tracker(name, run, self._report))
        except Exception as error:  # a full disk, but a broken library too
            self._give_up(error)

    def _open_tensorboard(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._report(
                "tensorboard is not installed, so no TensorBoard files are written: pip install tensorboard"
            )
            return
        # The steps after the checkpoint run again: what was logged of them before is hidden.
        self._tensorboard = SummaryWriter(str(folder), purge_step=step + 1 if step else None)
        self._report(
            f"TensorBoard files are in {visible(str(folder))}: {look_at(folder.parents[1])}"
        )

    def add(self, step: int, metrics: Metrics) -> None:
        """Adds what was measured after a step."""
        for tracker in self._trackers:
            tracker.add(step, metrics)
        if self._tensorboard is None:
            return
        try:
            for name, value in metrics.items():
                self._tensorboard.add_scalar(name, value, step)
            self._tensorboard.flush()
        except Exception as error:
            self._give_up(error)

    def end(self, status: str) -> None:
        """Closes the log. `status` is finished, failed or interrupted; only the first may take time."""
        if self._tensorboard is not None:
            try:
                self._tensorboard.close()
            except Exception as error:
                self._give_up(error)
        for tracker in self._trackers:
            tracker.finish(status)
        until = time.monotonic() + (FINISH_SECONDS if status == "finished" else HURRIED_SECONDS)
        for tracker in self._trackers:
            tracker.wait(until)

    def _give_up(self, error: Exception) -> None:
        self._tensorboard = None
        why = str(error).partition("\n")[0]
        self._report(
            f"warning: the log of this training is not complete ({why}); the training continues"
        )


def look_at(runs: Path) -> str:
    """The command that shows the TensorBoard files below a folder."""
    return visible(f"tensorboard --logdir {shlex.quote(str(runs))}")


def _folder(runs: Path, *, resumed: bool) -> Path:
    before = sorted(path for path in runs.glob("*") if path.is_dir())
    if resumed and before:
        return before[-1]
    began = time.strftime("%Y-%m-%d_%H-%M-%S")
    for number in range(1, 100):  # two in one second
        folder = runs / (began if number == 1 else f"{began}_{number:02}")
        if not folder.exists():
            break
    folder.mkdir(parents=True)
    return folder


def _run(folder: Path, logged: Logged) -> Run:
    """How trackers know this training; one that is resumed has the same names as before."""
    path = folder / _RUN
    resumed = path.exists()
    if resumed:
        known = json.loads(path.read_text(encoding="utf-8"))
    else:
        name = f"{logged.corpus}-{folder.parent.name[:8]}-{folder.name}"
        known = {"name": name, "id": secrets.token_hex(8)}
        path.write_text(json.dumps(known) + "\n", encoding="utf-8")
    return Run(known["name"], known["id"], folder, logged.settings, resumed)


def logging(log: RunLog) -> "TrainerCallback":
    """A trainer callback that gives a log all that the trainer's history gets."""
    from transformers import TrainerCallback

    class Logging(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.seen = len(state.log_history) if state.global_step else 0
            self.at, self.tokens = time.monotonic(), 0.0
            log.begin(state.global_step)

        def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            for entry in state.log_history[self.seen :]:
                if metrics := {**metrics_of(entry), **self._speed(entry)}:
                    log.add(entry["step"], metrics)
            self.seen = len(state.log_history)

        on_train_end = on_log

        def _speed(self, entry: Mapping[str, float]) -> Metrics:
            """The tokens a second since the entry before."""
            if "num_tokens" not in entry:
                return {}
            now, tokens = time.monotonic(), float(entry["num_tokens"])
            speed = (tokens - self.tokens) / max(now - self.at, 1e-6)
            self.at, self.tokens = now, tokens
            return {"train/tokens_per_second": round(speed, 1)}

    return Logging()


_NOT_SHOWN = ("step", "epoch", "num_tokens", "total_flos")


def metrics_of(entry: Mapping[str, Any]) -> Metrics:
    """An entry of the trainer's history as trackers name it: `train/loss`, `eval/loss`.

    The summary of the whole training (`train_…`) is not in it.
    """
    found: Metrics = {}
    for key, value in entry.items():
        shown = isinstance(value, int | float) and math.isfinite(value)
        if not shown or key in _NOT_SHOWN or key.startswith("train_"):
            continue
        found[f"eval/{key[5:]}" if key.startswith("eval_") else f"train/{key}"] = float(value)
    return found
