"""Nothing needs Linux before it is used: here its names are taken away, as macOS lacks them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_WITHOUT_LINUX = """\
import builtins, io, os, socket, sys
del os.sched_getaffinity
del socket.SOCK_SEQPACKET
_open = builtins.open
def _without_proc(file, *args, **kwargs):
    asks = sys._getframe(1).f_globals.get("__name__", "")
    if str(file).startswith("/proc/") and not asks.startswith("psutil"):
        raise FileNotFoundError(2, "No such file or directory", str(file))
    return _open(file, *args, **kwargs)
builtins.open = io.open = _without_proc
"""
"""Python runs this at the start of each process that finds it. psutil may read /proc: elsewhere it
asks the system."""

_READ_A_TEXT = """\
import sys
from pathlib import Path
from ft_assets.stages.parsing.files import Task
from ft_assets.stages.parsing.pool import parse_files
from ft_assets_tests.stages.loaders.read_file import settings
folder = Path(sys.argv[1])
[(_, parsed)] = parse_files([Task(folder / "a.txt", "text", settings(), folder)])
print(parsed.characters, parsed.rejected)
"""


def _run(folder: Path, *arguments: str, **environment: str) -> str:
    (folder / "sitecustomize.py").write_text(_WITHOUT_LINUX)
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, **environment}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_names_are_gone(tmp_path: Path) -> None:
    code = "import os, socket; print(hasattr(os, 'sched_getaffinity'), hasattr(socket, 'SOCK_SEQPACKET'))"
    assert _run(tmp_path, "-c", code).split() == ["False", "False"]


@pytest.mark.parametrize(
    "module", ["ft_assets.cli", "ft_assets.definitions", "ft_assets.stages.parsing.pool"]
)
def test_importing_needs_no_linux(tmp_path: Path, module: str) -> None:
    _run(tmp_path, "-c", f"import {module}")


def test_help_needs_no_linux(tmp_path: Path) -> None:
    assert "refresh" in _run(tmp_path, "-m", "ft_assets.cli", "--help")


def test_files_are_read_without_linux(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The ferry leaves at six.")
    assert _run(tmp_path, "-c", _READ_A_TEXT, str(tmp_path)).split() == ["24", "[]"]
