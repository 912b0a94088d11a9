"""The processes that parse files: `python -m ft_assets.stages.parsing.process PARENT`.

This one, the host, stays idle and small. It forks a worker whenever the parser pool asks for one,
so that a worker costs milliseconds and shares what has been imported, and it ends workers: that
includes all of them once the process PARENT, at the other end of standard input, is gone. Being
idle it can always do so, whatever a worker is stuck in.
"""

import ctypes
import errno
import gc
import json
import logging
import os
import select
import signal
import socket
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from ft_assets.children import limit_cpu, limit_file_size, limit_memory, restrict
from ft_assets.stages.loaders.formats import holds_records, preload
from ft_assets.stages.loaders.interface import UnreadableError
from ft_assets.stages.parsing.files import Task, parse
from ft_assets.stages.parsing.row_spool import DiskError
from ft_assets.stages.parsing.text_quality import preload as preload_quality
from ft_assets.tables import load_lean_pyarrow

_POLL_SECONDS = 1.0
_LARGEST_PART = 65_536
_PR_SET_PDEATHSIG = 1
_ALLOWED_BYTES = 1 << 30
NO_MEMORY = "memory"


def send_line(to: socket.socket, message: dict[str, Any], handles: Sequence[int] = ()) -> None:
    """Sends a message as one line of JSON, with open files beside its first byte."""
    line = json.dumps(message).encode() + b"\n"
    sent = socket.send_fds(to, [line], handles)
    to.sendall(line[sent:])


def receive_line(of: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message and the open files that came with it; None once the other end is gone.

    Only for sides that take turns: of what comes after the line, nothing may be there yet.
    """
    line = b""
    handles: list[int] = []
    while not line.endswith(b"\n"):
        content, more, _, _ = socket.recv_fds(of, _LARGEST_PART, 1)
        if not content:
            return None
        line += content
        handles += more
    return json.loads(line), handles


class _Host:
    """Serves the parser pool at the other end of `control`."""

    def __init__(self, control: socket.socket, parent: int) -> None:
        self._control, self._parent = control, parent
        self._workers: set[int] = set()

    def serve(self) -> None:
        """Answers requests until the pool's process is gone, then ends all workers."""
        while os.getppid() == self._parent:
            if not select.select([self._control], [], [], _POLL_SECONDS)[0]:
                continue
            found = receive_line(self._control)
            if found is None:
                break
            request, handles = found
            answer = self._fork(handles, **request) if handles else self._end(**request)
            send_line(self._control, answer)
        for pid in list(self._workers):
            self._end(pid)

    def _fork(self, handles: list[int], media_type: str) -> dict[str, int]:
        """Starts a worker that takes its tasks from the socket in `handles`."""
        try:
            preload(media_type)
            if not holds_records(media_type):
                preload_quality()
        except OSError as error:  # as on a disk that is full
            os.close(handles[0])
            return {"errno": error.errno or 0}
        gc.freeze()
        host = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._control.close()
            _work(socket.socket(fileno=handles[0]), host)
        os.close(handles[0])
        self._workers.add(pid)
        return {"pid": pid}

    def _end(self, pid: int) -> dict[str, int]:
        """Kills a worker and all that it started, if it still runs; says what it died of."""
        # Its group has its id only once it has made one; until this process waits, the id is its own.
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError, PermissionError):
                kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        self._workers.discard(pid)
        return {"status": os.waitstatus_to_exitcode(status)}


def _work(tasks: socket.socket, host: int) -> None:
    """Parses files until there are no more tasks; never returns."""
    code = 1
    try:
        os.setsid()
        _end_with(host)
        with tasks, tasks.makefile("rb") as lines:
            for line in lines:
                answer = _answer(Task.from_json(line))
                tasks.sendall(json.dumps(answer).encode() + b"\n")
                if answer.get("failed") == NO_MEMORY:
                    break  # what is left of its memory is in pieces
        code = 0
    finally:
        os._exit(code)


def _end_with(host: int) -> None:
    """Has the system kill this process should the host die."""
    with suppress(AttributeError):  # only Linux can
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != host:
        os._exit(1)


def _answer(task: Task) -> dict[str, Any]:
    """What the file holds, or why this engine cannot say."""
    try:
        limit_cpu(task.settings.max_seconds)
        limit_file_size(_largest_file(task))
        limit_memory(task.settings.max_memory_mb * 2**20)
        return asdict(parse(task))
    except MemoryError:
        limit_memory(None)
        return {"failed": NO_MEMORY}
    except UnreadableError as error:
        return {"failed": str(error), **vars(error)}
    except DiskError as error:
        if error.cause.errno == errno.EFBIG:
            reason = (
                "what it holds is far larger than its size and data.loaders.max_unpacked_mb allow"
            )
            return {"failed": reason, **vars(UnreadableError(reason, final=True))}
        return {"failed": str(error), "errno": error.cause.errno}


def _largest_file(task: Task) -> int:
    """What a file of rows may grow to by this task: they share it with those parsed before."""
    files = task.scratch.glob(f"*-{task.owner}")
    before = max((path.stat().st_size for path in files), default=0)
    size = task.path.stat().st_size if task.path.exists() else 0
    return before + 8 * size + 2 * task.settings.max_unpacked_mb * 2**20 + _ALLOWED_BYTES


def _be_quiet() -> None:
    """What libraries say about damaged files is for nobody."""
    if os.environ.get("FT_ASSETS_DEBUG"):
        return
    logging.disable()
    warnings.simplefilter("ignore")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def main() -> None:
    """Serves the process that started this one."""
    restrict("parser")
    os.environ.setdefault(
        "OPENBLAS_NUM_THREADS", "1"
    )  # numpy would start threads, for nothing here
    load_lean_pyarrow()
    control = socket.socket(fileno=os.dup(0))
    _be_quiet()
    send_line(control, {})
    with suppress(ConnectionError):
        _Host(control, int(sys.argv[1])).serve()


if __name__ == "__main__":
    main()
