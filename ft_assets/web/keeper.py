"""Runs a command, and ends it and everything that it started when its owner ends.

The owner (`ft-assets ui`) starts a keeper and holds a pipe to it. When the pipe closes, because the
owner closed it or was killed, the keeper ends the command's process group, then whatever is left.
(PR_SET_PDEATHSIG would not reach grandchildren, and leaves no time to end cleanly.)
`python -m ft_assets.web.keeper HANDLES COMMAND…`: the command inherits the file descriptors HANDLES.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from io import FileIO

import psutil

_GRACE_SECONDS = 30.0
"""How long runs may take to end after an interrupt."""
_LAST_SECONDS = 3.0
"""How long they may take if the owner was killed, or interrupted twice."""
_POLL_SECONDS = 0.2
_PR_SET_CHILD_SUBREAPER = 36


def keep(command: list[str], handles: Sequence[int], held: Sequence[int]) -> int:
    """Runs a command until it ends or this process is interrupted; returns its exit code, or 0.

    The command inherits the file descriptors `handles`, which are closed here. Those in `held` stay open
    until all of its processes have ended, even if this process is killed. After a second interrupt,
    runs get only a few seconds to end.
    """
    _adopt_orphans()
    numbers = ",".join(map(str, handles))
    theirs, ours = os.pipe()
    keeper = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, numbers, *command],
        stdin=theirs,
        pass_fds=[*handles, *held],
        start_new_session=True,
    )
    for handle in (theirs, *handles):
        os.close(handle)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    with os.fdopen(ours, "wb", buffering=0) as pipe:
        try:
            return keeper.wait()
        except KeyboardInterrupt:
            _end_kindly(keeper, pipe)
            return 0
        finally:
            _kill_descendants()


def _end_kindly(keeper: "subprocess.Popen[bytes]", pipe: FileIO) -> None:
    """Asks the keeper to interrupt the command, and at a second interrupt to end it quickly."""
    with suppress(BrokenPipeError):
        pipe.write(b".")
    try:
        keeper.wait()
    except KeyboardInterrupt:
        pipe.close()
        keeper.wait()


def main() -> None:
    """The keeper: runs the command in the arguments."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which the command would inherit
    _adopt_orphans()
    handles = [int(number) for number in sys.argv[1].split(",")]
    process = subprocess.Popen(
        sys.argv[2:], process_group=0, pass_fds=handles, stdin=subprocess.DEVNULL
    )
    for handle in handles:
        os.close(handle)
    while _reap(process) and not _readable():
        pass
    asked = process.returncode is None and bool(os.read(sys.stdin.fileno(), 1))
    _end(process, patient=asked)
    sys.exit(process.returncode)


def _adopt_orphans() -> None:
    """Makes this process the parent of descendants whose own parent ends."""
    with suppress(AttributeError, OSError):  # prctl exists only on Linux
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _reap(process: "subprocess.Popen[bytes]") -> bool:
    """Reaps children that have ended; returns whether the command itself still runs."""
    with suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid == process.pid:
                process.wait()
            else:
                os.waitpid(ended.si_pid, 0)
    return process.returncode is None


def _readable() -> bool:
    """Whether the owner has written to the pipe or closed it, after a short wait."""
    return bool(select.select([sys.stdin], [], [], _POLL_SECONDS)[0])


def _end(process: "subprocess.Popen[bytes]", patient: bool) -> None:
    """Interrupts the command's group, waits for its end, and kills what is left."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    deadline = time.monotonic() + (_GRACE_SECONDS if patient else _LAST_SECONDS)
    while psutil.Process().children() and time.monotonic() < deadline:
        _reap(process)
        if patient and _readable():
            break
        time.sleep(0 if patient else _POLL_SECONDS)
    _kill_descendants()
    process.wait()


def _kill_descendants() -> None:
    """Kills all descendants of this process."""
    while left := psutil.Process().children(recursive=True):
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1)


if __name__ == "__main__":
    main()
