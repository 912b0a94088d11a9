"""Writes `requirements.lock` and `requirements-cuda.lock` from `constraints.txt`: `make lock`.

`constraints.txt` says which versions were tested together. The locks add the hashes of their wheels for
Linux and macOS and for each Python in PYTHONS, one line per package, independent of the index. A package
without wheels (llama-cpp-python) has the hash of its source distribution. pip itself reads the index
pages, so an index, a proxy or a folder of wheels in its settings is used too: this is how the CPU build
of torch, which is not on PyPI, gets into the lock. Hashes that a lock already has for a version are
kept.

The libraries that only PyPI's CUDA build of torch needs have their own lock, `requirements-cuda.lock`.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from packaging.tags import Tag
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).parents[1]
VERSIONS = ROOT / "constraints.txt"
LOCK, CUDA_LOCK = ROOT / "requirements.lock", ROOT / "requirements-cuda.lock"

PYTHONS = (11, 12, 13)
_PLATFORM = re.compile(r"any|manylinux.*_(x86_64|aarch64)|macosx_.*_(arm64|universal2)")
_CUDA = re.compile(r"(cuda|nvidia)-.*|triton")
_HEAD = "# Written by scripts/lock.py from constraints.txt: make lock\n"

Hashes = dict[str, set[str]]
"""The sha256 of the files of each `name==version`."""


def read_lock(path: Path) -> Hashes:
    """The hashes in a lock; {} if the file does not exist."""
    if not path.exists():
        return {}
    lines = [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]
    return {line[0]: {part.removeprefix("--hash=sha256:") for part in line[1:]} for line in lines}


def pinned() -> list[str]:
    """Each `name==version` in `constraints.txt`."""
    lines = VERSIONS.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def is_cuda(pin: str) -> bool:
    """Whether only the CUDA build of torch needs a package."""
    return bool(_CUDA.fullmatch(pin.partition("==")[0]))


def serves(tag: Tag) -> bool:
    """Whether a wheel with this tag installs on a machine that the lock is for."""
    if not _PLATFORM.fullmatch(tag.platform):
        return False
    if tag.interpreter == "py3":
        return tag.abi == "none"
    cpython = re.fullmatch(r"cp3(\d+)", tag.interpreter)
    minor = int(cpython[1]) if cpython else 0
    if tag.abi == "abi3":
        return 0 < minor <= max(PYTHONS)
    return minor in PYTHONS and tag.abi in ("none", f"cp3{minor}")


class _Evaluator:
    """pip's filter for links; unlike pip's own, it accepts wheels for every machine of the lock."""

    def __init__(self, project: str) -> None:
        links: Any = import_module("pip._internal.index.package_finder")
        self._kinds = links.LinkType
        self.project_name = project

    def evaluate_link(self, link: Any) -> tuple[Any, str]:
        """The kind of a link and its version, or its file name if it is not accepted."""
        if link.is_wheel:
            try:
                _, version, _, tags = parse_wheel_filename(link.filename)
            except InvalidWheelFilename:
                return self._kinds.format_invalid, link.filename
            if any(serves(tag) for tag in tags):
                return self._kinds.candidate, str(version)
        elif link.filename.endswith(".tar.gz"):
            with suppress(InvalidSdistFilename, InvalidVersion):
                return self._kinds.candidate, str(parse_sdist_filename(link.filename)[1])
        return self._kinds.platform_mismatch, link.filename


def _finder() -> Any:
    """pip's package finder, with the user's settings, for all machines of the lock."""
    command: Any = import_module("pip._internal.commands").create_command("download")
    options, _ = command.parse_args(["any"])
    finder = command._build_package_finder(options, command._build_session(options))
    finder.make_link_evaluator = _Evaluator
    return finder


def _links(finder: Any, pin: str) -> Iterator[Any]:
    name, _, wanted = pin.partition("==")
    for candidate in finder.find_all_candidates(name):
        if Version(Version(str(candidate.version)).public) == Version(wanted):
            yield candidate.link


def _hash(link: Any) -> str:
    from ft_assets.files import hash_file

    if link.hash_name == "sha256":
        return str(link.hash)
    if not link.is_file:
        raise SystemExit(f"{link.filename}: its index has no sha256 for it; use another index")
    return hash_file(Path(link.file_path))


def hashes(finder: Any, pin: str) -> set[str]:
    """The sha256 of a version's wheels, or of its source distribution if it has none."""
    links = list(_links(finder, pin))
    found = {_hash(link) for link in links if link.is_wheel} or {_hash(link) for link in links}
    if not found:
        raise SystemExit(f"{pin}: no file found in pip's index; check constraints.txt")
    return found


def write_lock(path: Path, pins: list[str], found: Hashes) -> None:
    """Writes a lock, one line per package; hashes that it had for the same version are kept."""
    before = read_lock(path)
    lines = []
    for pin in pins:
        every = sorted(found[pin] | before.get(pin, set()))
        lines.append(" ".join([pin, *(f"--hash=sha256:{one}" for one in every)]))
    path.write_text(_HEAD + "\n".join(lines) + "\n")


def main() -> None:
    """Looks up every pinned package, and writes both locks."""
    finder = _finder()
    pins = pinned()
    found = {}
    for number, pin in enumerate(pins, 1):
        print(f"\r{number}/{len(pins)} {pin:50}", end="", file=sys.stderr)
        found[pin] = hashes(finder, pin)
    print(file=sys.stderr)
    write_lock(LOCK, [pin for pin in pins if not is_cuda(pin)], found)
    write_lock(CUDA_LOCK, [pin for pin in pins if is_cuda(pin)], found)


if __name__ == "__main__":
    main()
