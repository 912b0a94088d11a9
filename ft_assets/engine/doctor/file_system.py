"""What the file system under the storage can do, tried in a temporary folder there."""

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from ft_assets.engine.doctor.line import Line
from ft_assets.engine.doctor.places import existing, storage
from ft_assets.files import sync_folder

_LINKS = "hard links"


def storage_files() -> Line:
    """Locks, fsync and atomic replacement, without which nothing is published, and hard links."""
    name, folder = "storage", storage()
    cost = "artifacts cannot be published there: set FT_ASSETS_STORAGE to a folder on a local disk"
    try:
        with tempfile.TemporaryDirectory(dir=existing(folder), prefix=".doctor-") as scratch:
            failed = _failures(Path(scratch))
    except OSError as error:
        found = f"{folder} is not writable ({error.strerror})"
        return Line(name, "missing", found, cost, essential=True)
    if list(failed) == [_LINKS]:
        found, cost = (
            f"{folder}: {failed[_LINKS]}",
            "unchanged tables are copied: more disk and time",
        )
        return Line(name, "note", found, cost)
    if failed:
        return Line(
            name, "missing", f"{folder}: {'; '.join(failed.values())}", cost, essential=True
        )
    return Line(name, "ok", f"{folder}: {', '.join(_TRIALS)}")


def _failures(folder: Path) -> dict[str, str]:
    """What the file system refuses in `folder`, and how it says so."""
    failed = {}
    for what, attempt in _TRIALS.items():
        path = folder / what.replace(" ", "-")
        path.touch()
        try:
            attempt(path)
        except OSError as error:
            failed[what] = f"no {what} ({error.strerror})"
    return failed


def _lock(path: Path) -> None:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _link(path: Path) -> None:
    path.with_suffix(".link").hardlink_to(path)


def _sync(path: Path) -> None:
    with path.open("w") as file:
        os.fsync(file.fileno())
    sync_folder(path.parent)


def _replace(path: Path) -> None:
    fresh = path.with_suffix(".new")
    fresh.touch()
    fresh.replace(path)


_TRIALS: dict[str, Callable[[Path], None]] = {
    "file locks": _lock,
    _LINKS: _link,
    "fsync": _sync,
    "atomic replacement": _replace,
}
