"""Experiment trackers (Weights & Biases, MLflow, Trackio), each in a process of its own.

A tracker can hang on its network, fail, or draw random numbers; none of it reaches the training. It learns
the name of the run, the settings and the metrics, and nothing else.
"""

import json
import os
import queue
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ft_assets.children import python, start
from ft_assets.manifest import Settings
from ft_assets.stages.job import Report

NAMES = {"wandb": "Weights & Biases", "mlflow": "MLflow", "trackio": "Trackio"}
FINISH_SECONDS = 60.0
"""How long a finished training waits for a tracker to send what is left."""
HURRIED_SECONDS = 5.0
"""The same for one that failed or was interrupted: the run waits for it only so long."""


@dataclass(frozen=True)
class Run:
    """A training as a tracker knows it; `resumed` says that it was begun before."""

    name: str
    id: str
    folder: Path
    settings: Settings
    resumed: bool


class Tracker:
    """A tracker's process. No method waits for it but `wait`."""

    def __init__(self, name: str, run: Run, report: Report) -> None:
        self._name = name
        self._report = report
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._failed = False
        self._process: subprocess.Popen[bytes] = start(
            "tracker",
            python("ft_assets.stages.training.tracker_process", name),
            cwd=str(run.folder),  # ours: libraries read settings from their working directory
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("FT_ASSETS_DEBUG") else subprocess.DEVNULL,
            start_new_session=True,  # a terminal's interrupt is for the training, which then ends the run
        )
        self._to: IO[bytes] = self._process.stdin  # type: ignore[assignment]
        self._of: IO[bytes] = self._process.stdout  # type: ignore[assignment]
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._write, self._read)
        ]
        for thread in self._threads:
            thread.start()
        self._send(
            name=run.name,
            id=run.id,
            folder=str(run.folder),
            settings=run.settings,
            resumed=run.resumed,
        )

    def add(self, step: int, metrics: dict[str, float]) -> None:
        """Has it log what was measured after a step."""
        if not self._failed:
            self._send(step=step, metrics=metrics)

    def finish(self, status: str) -> None:
        """Has it end its run."""
        self._send(status=status)
        self._lines.put(None)

    def wait(self, until: float) -> None:
        """Waits until it has sent everything, and ends it at the time `until` (monotonic)."""
        try:
            self._process.wait(timeout=max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._say("it had not sent everything in time and was ended")
        # Its own processes may outlive it.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        until = time.monotonic() + 1.0
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _send(self, **message: Any) -> None:
        self._lines.put(json.dumps(message).encode() + b"\n")

    def _write(self) -> None:
        with suppress(OSError, ValueError):  # it has ended: `_read` says so
            while (line := self._lines.get()) is not None:
                self._to.write(line)
                self._to.flush()
        with suppress(OSError, ValueError):
            self._to.close()

    def _read(self) -> None:
        ended = False
        with self._of as lines:
            for line in lines:
                with suppress(ValueError):
                    message = json.loads(line)
                    ended = ended or "ended" in message
                    if said := message.get("said"):
                        self._report(f"{NAMES[self._name]}: {said}")
                    if failed := message.get("failed"):
                        self._say(str(failed))
        if not ended:
            self._say("its process ended early")

    def _say(self, why: str) -> None:
        """Says once that the tracker does not get everything."""
        if not self._failed:
            self._failed = True
            self._report(
                f"warning: {NAMES[self._name]} does not get everything of this training ({why}); the training "
                "continues, and its TensorBoard files are complete"
            )
