"""Programs and libraries that parts of the project use."""

import os
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from ft_assets.engine.doctor.line import Line

_SECONDS = 20
_WITHOUT_LLAMA = "no GGUF files and no `ft-assets chat`: pip install 'ft-assets[gguf]'"


def compiler() -> Line:
    """A C++ compiler; only building llama-cpp-python needs one."""
    own = os.environ.get("CXX")
    names = (own,) if own else ("c++", "g++", "clang++")
    return _program("C++ compiler", names, "llama-cpp-python cannot be built: no GGUF files")


def cmake() -> Line:
    """cmake, from the environment of this Python or from the system."""
    if find_spec("cmake"):
        return Line("cmake", "ok", f"{version('cmake')} (Python package)")
    cost = "llama-cpp-python cannot be built; `make setup` brings cmake as a package"
    return _program("cmake", ("cmake",), cost)


def ocrmypdf() -> Line:
    """OCR for scanned PDFs."""
    cost = "scanned PDFs are rejected (data.loaders.ocr needs it): apt-get install ocrmypdf"
    return _program("ocrmypdf", ("ocrmypdf",), cost)


def llama_cpp() -> Line:
    """llama.cpp's library, without loading it."""
    try:
        found = version("llama_cpp_python")
    except PackageNotFoundError:
        return Line("llama-cpp-python", "missing", "not installed", _WITHOUT_LLAMA)
    return Line("llama-cpp-python", "ok", found)


def _program(name: str, programs: tuple[str, ...], cost: str) -> Line:
    """The first of these programs that is on the path, with its version."""
    paths = [path for program in programs if (path := shutil.which(program))]
    if not paths:
        return Line(name, "missing", f"no {' or '.join(programs)} on the path", cost)
    command = [paths[0], "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    said = (done.stdout or done.stderr).strip().splitlines()
    if done.returncode or not said:
        return Line(name, "missing", f"{paths[0]} does not run", cost)
    return Line(name, "ok", f"{said[0]} ({Path(paths[0])})")
