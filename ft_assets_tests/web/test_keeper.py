"""Everything that a keeper runs ends with its owner, however the owner ends."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

OWNER = """
    import os, sys
    from ft_assets.web.keeper import keep

    held, handle = (os.open(sys.argv[1], os.O_RDONLY) for _ in range(2))
    sys.exit(keep([sys.executable, "-c", sys.argv[2]], [handle], [held]))
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(90)"
FAMILY = f"""
import subprocess, sys, time
start = [sys.executable, "-c", {STUBBORN!r}]
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(90)"])
subprocess.Popen(start, start_new_session=True)
subprocess.Popen([sys.executable, "-c", f"import subprocess; subprocess.Popen({{start!r}})"])
print("up", flush=True)
time.sleep(90)
"""
"""A child, one in its own session that ignores interrupts, and one whose parent has ended."""


def _owner(mark: Path, command: str) -> "subprocess.Popen[str]":
    mark.touch()
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER), str(mark), command],
        env={**os.environ, "FT_ASSETS_TEST_MARK": str(mark)},
        stdout=subprocess.PIPE,
        text=True,
    )


def _marked(mark: Path) -> list[psutil.Process]:
    """The living descendants of an owner."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("FT_ASSETS_TEST_MARK") == str(mark):
                found.append(process)
    return found


def _wait_until_up(mark: Path, count: int) -> None:
    """Waits for so many descendants: the last ones start after the command has said that it is up."""
    deadline = time.monotonic() + 20
    while len(_marked(mark)) < count:
        assert time.monotonic() < deadline, _marked(mark)
        time.sleep(0.05)


def _wait_until_gone(mark: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while left := _marked(mark):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


@pytest.mark.parametrize("victim", ["owner", "keeper", "command"])
def test_nothing_outlives_a_kill(tmp_path: Path, victim: str) -> None:
    mark = tmp_path / "mark"
    with _owner(mark, FAMILY) as owner:
        assert owner.stdout
        assert owner.stdout.readline() == "up\n"
        _wait_until_up(mark, 6)
        [keeper] = psutil.Process(owner.pid).children()
        [command] = [child for child in keeper.children() if child.pid == os.getpgid(child.pid)]
        pids = {"owner": owner.pid, "keeper": keeper.pid, "command": command.pid}
        os.kill(pids[victim], signal.SIGKILL)
        _wait_until_gone(mark, 10)


def test_an_interrupt_lets_the_command_finish_and_a_second_does_not_wait(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    last_words = "import time\ntry:\n print('up', flush=True); time.sleep(90)\n"
    with _owner(mark, last_words + "except KeyboardInterrupt:\n print('bye')") as owner:
        assert owner.stdout
        owner.stdout.readline()
        owner.send_signal(signal.SIGTERM)
        assert owner.stdout.readline() == "bye\n"
        assert owner.wait(timeout=10) == 0
    with _owner(
        mark, STUBBORN.replace("time.sleep", "print('up', flush=True); time.sleep")
    ) as owner:
        assert owner.stdout
        owner.stdout.readline()
        for _ in range(2):
            owner.send_signal(signal.SIGINT)
            time.sleep(0.5)
        assert owner.wait(timeout=10) == 0
        assert not _marked(mark)


def test_the_commands_exit_code_is_kept(tmp_path: Path) -> None:
    with _owner(tmp_path / "mark", "raise SystemExit(7)") as owner:
        assert owner.wait(timeout=20) == 7
    assert not _marked(tmp_path / "mark")
