"""Cached folders with a sealed list of their files, checked before each use.

The seal names each file with its size and sha256, and what the folder was made from. Somebody who may
write to the whole cache could write a new seal too; for the pinned packages that does not help, since
the digest of their files is in the code (`Origin.tree`). A remembered digest (by size and times) would
have to be kept in the same cache, where it can be written as well: so files are hashed. The demo's
model, 270 MB, takes 0.2 seconds; users of its tokenizer alone skip the weights.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ft_assets.errors import StageError
from ft_assets.files import hash_file
from ft_assets.manifest import FileDigest, digest

REPAIR = "python -m ft_assets.stages.models --repair"
SEAL = ".seal.json"
_WEIGHTS = (".safetensors", ".gguf")

Files = dict[str, FileDigest]


@dataclass(frozen=True)
class Origin:
    """What a cached folder is made from: a package or a model, its version and its pinned hash.

    `tree` is the digest of the files if it is known beforehand.
    """

    name: str
    version: str
    source: str
    tree: str | None = None


def sealed_folder(
    folder: Path, origin: Origin, make: Callable[[Path], None], *, weights: bool = True
) -> Path:
    """`folder`, checked against its seal; made by `make(empty folder)` and sealed if it is missing.

    Without `weights` only the sizes of *.safetensors and *.gguf files are compared. Raises StageError
    if the folder is not what was sealed.
    """
    if not folder.is_dir():
        _make(folder, origin, make)
    problem = damage(folder, origin, weights=weights)
    if problem:
        raise StageError(f"{folder} is not used: {problem}. To repair it, run: {REPAIR}")
    return folder


def damage(folder: Path, origin: Origin | None = None, *, weights: bool = True) -> str | None:
    """What is wrong with a sealed folder, in words; None if nothing is.

    Without an origin, any that the seal names will do.
    """
    try:
        sealed = json.loads((folder / SEAL).read_text())
        files: Files = sealed["files"]
        told = Origin(sealed["name"], sealed["version"], sealed["source"])
        if sealed["digest"] != _seal(told, files)["digest"]:
            return f"its list of files ({SEAL}) was changed"
        return _wrong_origin(told, files, origin) or _wrong_file(folder, files, weights)
    except FileNotFoundError:
        return f"it has no list of files ({SEAL})"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"it cannot be checked ({type(error).__name__}: {error})"


def _make(folder: Path, origin: Origin, make: Callable[[Path], None]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        make(made)
        files = {name: _digest(path) for name, path in _files(made)}
        (made / SEAL).write_text(json.dumps(_seal(origin, files), indent=1))
        try:
            made.rename(folder)
        except OSError:  # another process was first
            if not folder.is_dir():
                raise


def remove(folder: Path) -> None:
    """Removes a cached folder; whoever looks for it finds it whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".removing-") as scratch:
        folder.rename(Path(scratch) / "gone")
        shutil.rmtree(Path(scratch) / "gone", ignore_errors=True)


def _seal(origin: Origin, files: Files) -> dict[str, object]:
    said = {"name": origin.name, "version": origin.version, "source": origin.source, "files": files}
    return {**said, "digest": digest(said)}


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Everything in a folder but its seal and its folders, by relative path."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name != SEAL and (path.is_symlink() or not path.is_dir()):
            yield name, path


def _digest(path: Path) -> FileDigest:
    return FileDigest(sha256=hash_file(path), bytes=path.stat().st_size)


def _wrong_origin(told: Origin, files: Files, wanted: Origin | None) -> str | None:
    if wanted is None:
        return None
    if (told.name, told.version, told.source) != (wanted.name, wanted.version, wanted.source):
        return f"it holds {told.name} {told.version}, not {wanted.name} {wanted.version}"
    if wanted.tree and digest(files) != wanted.tree:
        return f"its files are not those of {wanted.name} {wanted.version}"
    return None


def _wrong_file(folder: Path, files: Files, weights: bool) -> str | None:
    there = dict(_files(folder))
    if missing := sorted(files.keys() - there.keys()):
        return f"{missing[0]} is missing"
    if added := sorted(there.keys() - files.keys()):
        return f"{added[0]} was added"
    for name, path in there.items():
        if path.is_symlink() or not path.is_file():
            return f"{name} is not a regular file"
        is_same = path.stat().st_size == files[name]["bytes"]
        if is_same and (weights or path.suffix not in _WEIGHTS):
            is_same = hash_file(path) == files[name]["sha256"]
        if not is_same:
            return f"the content of {name} was changed"
    return None
