"""A training in several processes on this machine: `accelerate launch`, one for each GPU, or on CPUs by gloo."""

import json
import os
import queue
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

from ft_assets.children import python, start
from ft_assets.errors import StageError, UserError
from ft_assets.stages.job import Report
from ft_assets.stages.training.interruption import Interruption
from ft_assets.stages.training.shares import share_of
from ft_assets.stages.training.work import Trained, Work

WORK, RESULT, ERROR = "work.json", "result.json", "error-{}.json"
_CONFIG = "accelerate.yaml"
_LOST = ("closed by peer", "connection", "gloo", "nccl", "timed out")
"""What a process says of another that is gone."""
_END_SECONDS = 15.0


def run_in_processes(work: Work, processes: int, report: Report) -> Trained:
    """Trains in so many processes, with the rows in each update that one process would have.

    Ctrl-C ends them after the step, with a checkpoint. Raises what a process failed with, or a StageError that
    says that one died.
    """
    work = replace(work, training=share_of(work.training, processes))
    report(f"{processes} processes share each update")
    with tempfile.TemporaryDirectory(prefix="ft-assets-processes-") as scratch:
        folder = Path(scratch)
        work.dump(folder / WORK)
        with Interruption(report) as interruption, _launched(folder, processes) as process:
            _follow(process, interruption, report)
        if (folder / RESULT).exists():
            content = json.loads((folder / RESULT).read_text())
            return Trained(content["history"], content["seconds"])
        if interruption.asked:
            raise KeyboardInterrupt
        raise _error(folder)


@contextmanager
def _launched(folder: Path, processes: int) -> "Iterator[subprocess.Popen[bytes]]":
    """accelerate's launcher with its processes, in a session of their own, which ends with this block."""
    config = {  # a user's own file of defaults is not read then
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU",  # torchrun; without a GPU the processes take gloo
        "num_machines": 1,
        "num_processes": processes,
        "mixed_precision": "no",  # the trainer sets it
    }
    (folder / _CONFIG).write_text(json.dumps(config))
    command = python(
        "accelerate.commands.launch",
        *("--config_file", str(folder / _CONFIG), "--multi_gpu", "--num_processes", str(processes)),
        *("--main_process_ip", "127.0.0.1", "--main_process_port", str(_free_port())),
        *("-m", "ft_assets.stages.training.rank", str(folder)),
    )
    with (folder / "errors").open("wb") as errors:
        process = start(
            "trainer",
            command,
            cwd=str(folder),
            more={"GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", _loopback())},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("FT_ASSETS_DEBUG") else errors,
            start_new_session=True,  # a terminal's interrupt is for us: we pass it on
        )
    try:
        yield process
    finally:
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()  # the end of its input ends each process
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0 if process.poll() is None else _END_SECONDS)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _loopback() -> str:
    return "lo0" if os.uname().sysname == "Darwin" else "lo"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _follow(process: "subprocess.Popen[bytes]", interruption: Interruption, report: Report) -> None:
    """Passes on what the first process reports, and an interruption to all, until they have ended."""
    lines: queue.Queue[bytes | None] = queue.Queue()
    output: IO[bytes] = process.stdout  # type: ignore[assignment]
    to: IO[bytes] = process.stdin  # type: ignore[assignment]

    def read() -> None:
        with suppress(ValueError, OSError):
            for line in output:
                lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    told = False
    while True:
        if interruption.asked and not told:
            told = True
            with suppress(OSError):
                to.write(b"s")
                to.flush()
        try:
            line = lines.get(timeout=0.2)
        except queue.Empty:
            continue
        if line is None:
            return
        with suppress(ValueError, TypeError, KeyError):
            report(json.loads(line)["report"])


def _error(folder: Path) -> UserError | StageError:
    """Why the processes ended: what is known of it first, then what is not the loss of another process."""
    found = [json.loads(path.read_text()) for path in folder.glob(ERROR.format("*"))]
    found.sort(key=lambda each: not each["is_known"])
    for each in found:
        lost = any(word in each["message"].lower() for word in _LOST)
        if each["is_known"] or not lost:
            kind = UserError if each["is_user_error"] else StageError
            return kind(each["message"])
    return StageError(
        "one of the training's processes died. If it was killed, the machine may be out of memory: lower "
        "training.per_device_train_batch_size or training.max_length, or compute.processes"
    )
