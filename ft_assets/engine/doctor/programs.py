"""Programs and libraries that parts of the project use."""

import os
import shutil
import subprocess
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from ft_assets.engine.doctor.line import Line, State
from ft_assets.extras import EXTRAS, missing

_SECONDS = 20
_COSTS = {  # a tracker costs nothing: only who names it in the settings needs it
    "train": "without train no adapter, evaluation, merged model or GGUF file is built here",
    "gguf": "without gguf no GGUF files and no `ft-assets chat`",
    "qa": "without qa no question-answer pairs",
    "ui": "without ui no `ft-assets ui`",
}


def compiler() -> Line:
    """A C++ compiler; only building llama-cpp-python needs one."""
    own = os.environ.get("CXX")
    names = (own,) if own else ("c++", "g++", "clang++")
    return _program("C++ compiler", names, *_build_tool("no GGUF files"))


def cmake() -> Line:
    """cmake, from the environment of this Python or from the system."""
    if find_spec("cmake"):
        return Line("cmake", "ok", f"{version('cmake')} (Python package)")
    return _program("cmake", ("cmake",), *_build_tool("`make setup` brings cmake as a package"))


def _build_tool(cost: str) -> tuple[str, bool]:
    """What going without a tool that builds llama-cpp-python costs; nothing once that is installed."""
    if missing("gguf"):
        return f"llama-cpp-python cannot be built: {cost}", False
    return "only needed to build llama-cpp-python, which is installed", True


def ocrmypdf() -> Line:
    """OCR for scanned PDFs."""
    cost = "scanned PDFs are rejected (data.loaders.ocr needs it): apt-get install ocrmypdf"
    return _program("ocrmypdf", ("ocrmypdf",), cost, optional=True)


def extras() -> Line:
    """The extras of `pyproject.toml`, without loading their packages."""
    there = ", ".join(extra for extra in EXTRAS if not missing(extra)) or "none"
    costs = [cost for extra, cost in _COSTS.items() if missing(extra)]
    if not costs:
        return Line("extras", "ok", there)
    install = "; install one with pip install -c constraints.txt '.[NAME]'"
    return Line("extras", "missing", there, "; ".join(costs) + install)


def _program(name: str, programs: tuple[str, ...], cost: str, optional: bool = False) -> Line:
    """The first of these programs that is on the path, with its version."""
    absent: State = "optional" if optional else "missing"
    paths = [path for program in programs if (path := shutil.which(program))]
    if not paths:
        return Line(name, absent, f"no {' or '.join(programs)} on the path", cost)
    command = [paths[0], "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    said = (done.stdout or done.stderr).strip().splitlines()
    if done.returncode or not said:
        return Line(name, absent, f"{paths[0]} does not run", cost)
    return Line(name, "ok", f"{said[0]} ({Path(paths[0])})")
