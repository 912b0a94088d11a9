"""Checkpoints of a training under way: what the next training of the same work resumes from.

    <folder>/step-00000120/     the last one; named in one step, once all of it is on disk
    <folder>/.saving-*/         one that is being written, or was when its process died: never read

Each has a file CONTENTS that names its files with their digests, and the versions and the kind of device
that it was made with. One that is incomplete, damaged or made with others is left out, with a line that
says so. `folder` belongs to one fingerprint, hence to the same data and settings (`engine/storage.py`).
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft_assets.files import hash_file, sync_folder, write_atomically
from ft_assets.manifest import digest
from ft_assets.stages.job import Report
from ft_assets.stages.words import size_of

EVERY_SECONDS = 300.0
"""How much work an interrupted training loses at most, besides the step in hand."""
_CONTENTS = "checkpoint.json"
_SAVING = ".saving-"
_SPARE_BYTES = 200_000_000
"""What a checkpoint leaves free on the disk, because others write there, too."""


@dataclass(frozen=True)
class Checkpoint:
    """The state after `step` of `steps`, which took `seconds` of training."""

    folder: Path
    step: int
    steps: int
    seconds: float


class Checkpoints:
    """Reads and writes the checkpoints in `folder`, one each `every` seconds.

    `made_with` are the versions, and whatever else has to be equal for the result to be equal.
    """

    def __init__(
        self,
        folder: Path,
        made_with: Mapping[str, str],
        report: Report,
        every: float | None = None,
    ) -> None:
        self._folder = folder
        self._made_with = dict(made_with)
        self._report = report
        self._every = EVERY_SECONDS if every is None else every
        self._began = self._saved = time.monotonic()
        self._before = 0.0
        self._failed = False

    def last(self) -> Checkpoint | None:
        """The last whole checkpoint; everything else in the folder is removed, and said."""
        found: Checkpoint | None = None
        for path in sorted(self._folder.glob("*"), reverse=True):
            if not found and path.name[0] != ".":
                found = self._read(path)
            if not found or path != found.folder:
                shutil.rmtree(path, ignore_errors=True)
        self._saved = time.monotonic()
        self._before = found.seconds if found else 0.0
        return found

    def _read(self, path: Path) -> Checkpoint | None:
        contents = _contents(path)
        if contents is None or not _is_whole(path, contents["files"]):
            self._report(f"the checkpoint {path.name} is not whole, so it is not used")
            return None
        if contents["made_with"] != self._made_with:
            others = _difference(contents["made_with"], self._made_with)
            self._report(f"the checkpoint at {_place(contents)} is not used: it has {others}")
            return None
        return Checkpoint(path, contents["step"], contents["steps"], contents["seconds"])

    @property
    def seconds(self) -> float:
        """How long the training took so far, with what earlier processes did of it."""
        return self._before + time.monotonic() - self._began

    def is_due(self) -> bool:
        """Whether it is time for another checkpoint."""
        return time.monotonic() - self._saved >= self._every

    def save(self, step: int, steps: int, size: int, write: Callable[[Path], None]) -> None:
        """Makes what `write` writes into a folder, `size` bytes, the checkpoint after `step`.

        The one before is removed. If there is no room, or it cannot be written, that is said once, and
        the one before stays.
        """
        folder = None
        try:
            folder = self._begin(size)
            write(folder)
            self._publish(folder, step, steps)
            self._failed = False
        except Exception as error:  # torch and safetensors have errors of their own for a full disk
            self._say(error, step)
        finally:
            if folder:
                shutil.rmtree(folder, ignore_errors=True)
            self._saved = time.monotonic()

    def _begin(self, size: int) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        free, needed = shutil.disk_usage(self._folder).free, size + _SPARE_BYTES
        if free < needed:
            raise OSError(f"no space: {size_of(free)} are free, {size_of(needed)} are needed")
        return Path(tempfile.mkdtemp(dir=self._folder, prefix=_SAVING))

    def _publish(self, folder: Path, step: int, steps: int) -> None:
        contents = {
            "step": step,
            "steps": steps,
            "seconds": round(self.seconds, 1),
            "made_with": self._made_with,
            "files": {path.name: _synced(path) for path in sorted(folder.iterdir())},
        }
        whole = json.dumps({**contents, "digest": digest(contents)}, indent=1)
        write_atomically(folder / _CONTENTS, f"{whole}\n")
        target = self._folder / f"step-{step:08}"
        folder.rename(target)
        sync_folder(self._folder)
        for path in self._folder.glob("step-*"):
            if path.name < target.name:
                shutil.rmtree(path, ignore_errors=True)

    def _say(self, error: Exception, step: int) -> None:
        if not self._failed:
            why = str(error).partition("\n")[0]
            self._report(
                f"warning: no checkpoint after step {step} in {self._folder} ({why}); the training "
                "goes on, but if it is interrupted, the steps since the last checkpoint are lost"
            )
        self._failed = True


def kept_steps(folder: Path) -> str:
    """How much of a training the checkpoints in a folder hold, as `12 of 60 steps`; "" if none."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        if contents := _contents(path):
            return f"{_place(contents)} steps"
    return ""


def _place(contents: Mapping[str, Any]) -> str:
    return f"{contents['step']} of {contents['steps']}"


def _contents(path: Path) -> dict[str, Any] | None:
    """What a checkpoint says of itself; None if that is not what was written."""
    try:
        said = json.loads((path / _CONTENTS).read_text(encoding="utf-8"))
        sealed = said.pop("digest")
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return None
    return said if sealed == digest(said) else None


def _is_whole(path: Path, files: Mapping[str, str]) -> bool:
    names = {each.name for each in path.iterdir()} - {_CONTENTS}
    if names != set(files):
        return False
    with suppress(OSError):
        return all(hash_file(path / name) == sha256 for name, sha256 in files.items())
    return False


def _difference(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    names = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
    return ", ".join(
        f"{name} {theirs.get(name, 'none')}, not {ours.get(name, 'none')}" for name in names
    )


def _synced(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return hash_file(path)
