"""Files parsed in processes that can be killed: a file may hang, crash or blow up its parser.

The pool starts with the first file, lives as long as this process and is shared by all that parse
in it. Limits on time are enforced here, those on memory, CPU time and the size of files by the
worker's own system limits.
"""

import atexit
import json
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from ft_assets.children import python, start
from ft_assets.errors import StageError
from ft_assets.stages.loaders.formats import engines_of
from ft_assets.stages.parsing.files import ParsedFile, Task
from ft_assets.stages.parsing.process import NO_MEMORY, receive_line, send_line
from ft_assets.stages.parsing.row_spool import SpooledRows

_MAX_WORKERS = 8
_LONGEST_START = 120.0
_LONGEST_END = 10.0


@dataclass(eq=False)
class _Worker:
    """A process that parses one file at a time; only the host that forked it can end it."""

    host: "_Host"
    pid: int
    tasks: socket.socket
    received: bytes = b""

    def line(self) -> bytes | None:
        """The whole line it sent; None while there is none, nothing once it is dead."""
        try:
            content = self.tasks.recv(1 << 20)
        except ConnectionError:
            content = b""
        if not content:
            return b""
        self.received += content
        if not self.received.endswith(b"\n"):
            return None
        line, self.received = self.received, b""
        return line


@dataclass
class _Attempt:
    """A file on its way through its engines."""

    task: Task
    engines: list[str]
    reasons: list[str] = field(default_factory=list)
    deadline: float = 0.0
    lost: int = 0
    pages_without_text: int = 0

    @property
    def engine(self) -> str:
        """The engine whose turn it is."""
        return self.engines[0]

    def fail(self, reason: str, *, final: bool = False) -> None:
        """Notes why its engine failed, and goes on to the next."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        self.engines = [] if final else self.engines[1:]


_Answer = dict[str, Any] | None
"""What a worker says; None where it died or took too long."""


class _HostError(Exception):
    """The host is gone, and with it all workers."""


class _Host:
    """The process that forks the workers; see `parser_process`."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX)
        with theirs:
            self._process = start(
                "parser",
                python("ft_assets.stages.parsing.process", str(os.getpid())),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._control.settimeout(_LONGEST_START)
        self._receive()

    def fork(self, media_type: str) -> _Worker:
        """Starts a worker."""
        ours, theirs = socket.socketpair()
        with theirs:
            answer = self._ask({"media_type": media_type}, [theirs.fileno()])
        if "errno" in answer:
            ours.close()
            raise OSError(answer["errno"], os.strerror(answer["errno"]))
        return _Worker(self, answer["pid"], ours)

    def end(self, worker: _Worker) -> int:
        """Kills a worker, unless it is dead; returns its exit code, negative for a signal."""
        return self._ask({"pid": worker.pid}, [])["status"]

    def _ask(self, request: dict[str, Any], handles: list[int]) -> dict[str, int]:
        try:
            send_line(self._control, request, handles)
        except OSError as error:
            raise _HostError from error
        return self._receive()

    def _receive(self) -> dict[str, int]:
        try:
            found = receive_line(self._control)
        except OSError as error:
            raise _HostError from error
        if found is None:
            raise _HostError
        return found[0]

    def close(self) -> None:
        """Ends it and all its workers."""
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        self._control.close()
        try:
            self._process.wait(_LONGEST_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def forget(self) -> None:
        """Lets go of it in a forked process, whose it is not."""
        self._control.close()
        self._process.returncode = 0


class ParserPool:
    """Parses files in worker processes. Any number of threads may use it at once."""

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers
        self._lock = threading.Lock()
        self._host: _Host | None = None
        self._idle: list[_Worker] = []

    @cached_property
    def size(self) -> int:
        """How many workers it has at most: by default one for each processor it may use."""
        return self._workers or min(_MAX_WORKERS, _processors())

    def parse(self, tasks: list[Task]) -> Iterator[tuple[Task, ParsedFile]]:
        """Yields what each file holds, in whatever order they are done.

        Never raises for what is in a file. Raises OSError where rows cannot be written, StageError
        where no process can be started.
        """
        waiting = deque(
            _Attempt(task, engines_of(task.media_type, task.settings)) for task in tasks
        )
        running: dict[_Worker, _Attempt] = {}
        most = min(self.size, len(tasks))
        try:
            while waiting or running:
                while waiting and len(running) < most:
                    attempt = waiting.popleft()
                    running[self._begin(attempt)] = attempt
                for worker, answer in _answers(running):
                    attempt = running.pop(worker)
                    self._settle(worker, attempt, answer)
                    if answer and "failed" not in answer:
                        yield attempt.task, _parsed(attempt, answer)
                    elif attempt.engines:
                        waiting.appendleft(attempt)
                    else:
                        yield attempt.task, _rejected(attempt)
        finally:
            for worker in running:
                self._end(worker)

    def _begin(self, attempt: _Attempt) -> _Worker:
        """Gives a file to a worker."""
        worker = self._take(attempt.task.media_type)
        task = replace(attempt.task, engine=attempt.engine, owner=str(worker.pid))
        with suppress(ConnectionError):  # it died while it was idle: that shows when it is asked
            worker.tasks.sendall(task.to_json())
        attempt.deadline = time.monotonic() + task.settings.max_seconds
        return worker

    def _settle(self, worker: _Worker, attempt: _Attempt, answer: _Answer) -> None:
        """Gives the worker back or ends it; of one that failed, notes the reason in the attempt."""
        if answer and answer.get("failed") != NO_MEMORY:
            self._give_back(worker)
            if "errno" in answer:
                raise OSError(answer["errno"], os.strerror(answer["errno"]))
            if "failed" in answer:
                attempt.pages_without_text = answer["pages_without_text"]
                attempt.fail(answer["failed"], final=answer["final"])
            return
        late = answer is None and attempt.deadline <= time.monotonic()
        status = self._end(worker)
        if late or status == -signal.SIGXCPU:
            attempt.fail(_late(attempt))
        elif status == -signal.SIGKILL and answer is None and not attempt.lost:
            attempt.lost += 1  # by somebody else: that says nothing about the file
        else:
            attempt.fail(_died(attempt, 0 if answer else status))

    def _take(self, media_type: str) -> _Worker:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            try:
                self._host = self._host or _Host()
                return self._host.fork(media_type)
            except _HostError:
                self._drop_host()
            try:
                self._host = _Host()
                return self._host.fork(media_type)
            except _HostError as error:
                self._drop_host()
                raise StageError(
                    "the process that parses files does not start, or is killed: what it says of "
                    "that stands above; is there memory left?"
                ) from error

    def _give_back(self, worker: _Worker) -> None:
        with self._lock:
            if worker.host is self._host and len(self._idle) < self.size:
                self._idle.append(worker)
                return
        self._end(worker)

    def _end(self, worker: _Worker) -> int:
        """Ends a worker; returns what it died of."""
        worker.tasks.close()
        with self._lock:
            if worker.host is not self._host:  # which died, and all of its workers with it
                return -signal.SIGKILL
            try:
                return worker.host.end(worker)
            except _HostError:
                self._drop_host()
                return -signal.SIGKILL

    def _drop_host(self) -> None:
        host, self._host = self._host, None
        for worker in self._idle:
            worker.tasks.close()
        self._idle = []
        if host:
            host.close()

    def close(self) -> None:
        """Ends all processes; the next file starts new ones."""
        with self._lock:
            self._drop_host()

    def forget(self) -> None:
        """Lets go of all workers in a forked process: they belong to the one that forked."""
        if self._host:
            self._host.forget()
        for worker in self._idle:
            worker.tasks.close()
        self._lock, self._host, self._idle = threading.Lock(), None, []


def _processors() -> int:
    """The processors that this process may use; all of the machine if the system cannot say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _answers(running: dict[_Worker, _Attempt]) -> Iterator[tuple[_Worker, _Answer]]:
    """Waits for the next answers; None stands for a worker that died or whose time is up."""
    with selectors.DefaultSelector() as selector:
        for worker in running:
            selector.register(worker.tasks, selectors.EVENT_READ, worker)
        nearest = min(attempt.deadline for attempt in running.values())
        ready = [key.data for key, _ in selector.select(max(0.0, nearest - time.monotonic()))]
    for worker in ready:
        line = worker.line()
        if line is not None:
            yield worker, json.loads(line) if line else None
    now = time.monotonic()
    for worker, attempt in list(running.items()):
        if attempt.deadline <= now:
            yield worker, None


def _late(attempt: _Attempt) -> str:
    seconds = attempt.task.settings.max_seconds
    return f"{attempt.engine} took longer than {seconds} s: data.loaders.max_seconds"


def _died(attempt: _Attempt, status: int) -> str:
    """Why a worker ended, by its exit code; 0 says that it asked for too much memory."""
    most = f"{attempt.task.settings.max_memory_mb} MB of memory: data.loaders.max_memory_mb"
    if status == 0:
        return f"{attempt.engine} needs more than {most}"
    how = signal.Signals(-status).name if status < 0 else f"exit code {status}"
    return f"{attempt.engine} crashed ({how}), or needs more than {most}"


def _parsed(attempt: _Attempt, answer: dict[str, Any]) -> ParsedFile:
    batches = {
        table: [SpooledRows(**batch) for batch in found]
        for table, found in answer["batches"].items()
    }
    return ParsedFile(**{**answer, "media_type": attempt.task.media_type, "batches": batches})


def _rejected(attempt: _Attempt) -> ParsedFile:
    return ParsedFile(
        attempt.task.media_type,
        rejected=["; ".join(attempt.reasons)],
        pages_without_text=attempt.pages_without_text,
    )


_POOL = ParserPool()
atexit.register(_POOL.close)
os.register_at_fork(after_in_child=_POOL.forget)


def parse_files(tasks: list[Task]) -> Iterator[tuple[Task, ParsedFile]]:
    """Parses files in the pool of this process: see `ParserPool.parse`."""
    return _POOL.parse(tasks)
