"""Artifacts on a local POSIX disk; the one place that knows where they lie.

    <root>/<corpus>/<asset>/<version>/…            an artifact, its manifest.json written last
    <root>/<corpus>/<asset>/current                the version in use, replaced in one step
    <root>/<corpus>/<asset>/.staging-*/            work in progress, never read

Importable without Dagster.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from ft_assets.errors import StageError, no_room
from ft_assets.freshness import Manifest, digest

MANIFEST = "manifest.json"
CURRENT = "current"
_STAGING = ".staging-"


def hash_file(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Replaces a small file in one step: a reader sees the old text or the new, never a part."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Makes renames inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Storage:
    """Artifacts below one root folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, corpus: str, asset: str, version: str) -> Path:
        """Where a version of an artifact lies."""
        return self.root / corpus / asset / version

    def current(self, corpus: str, asset: str) -> Manifest | None:
        """The manifest of the version in use, or None where nothing usable was published.

        Raises StageError where the manifest that `current` names cannot be read.
        """
        try:
            version = (self.root / corpus / asset / CURRENT).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        return self.manifest(corpus, asset, version)

    def manifest(self, corpus: str, asset: str, version: str) -> Manifest:
        """The manifest of one version. Raises StageError where it cannot be read."""
        path = self.folder(corpus, asset, version) / MANIFEST
        try:
            return Manifest.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError) as error:
            raise StageError(
                f"{path} cannot be read ({error}): remove {path.parent.parent / CURRENT} and "
                "refresh to make the artifact again"
            ) from error

    @contextmanager
    def lock(self, corpus: str, asset: str) -> Iterator[None]:
        """Keeps other processes from making the same artifact; the second one in waits.

        The kernel lets go of the lock when its holder dies, however it dies.
        """
        home = self.root / corpus / asset
        home.mkdir(parents=True, exist_ok=True)
        with (home / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def staging(self, corpus: str, asset: str) -> Iterator[Path]:
        """An empty folder on the storage's own disk, gone afterwards whatever happens.

        To be entered under `lock`: what an earlier, killed holder left behind is removed first.
        A full disk becomes a StageError.
        """
        home = self.root / corpus / asset
        for leftover in home.glob(f"{_STAGING}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=home, prefix=_STAGING))
        try:
            yield folder
        except OSError as error:
            if full := no_room(error, self.root):
                raise full from error
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, folder: Path, manifest: Manifest) -> Manifest:
        """Makes what lies in a staging folder the current version of its artifact.

        Completes the manifest with the files and the version, which is the digest of their content.
        Where that version is there already, only its manifest is replaced.
        """
        home = self.root / manifest.corpus / manifest.asset
        folder.chmod(0o755)
        files = {
            path.relative_to(folder).as_posix(): {
                "sha256": _sync_and_hash(path),
                "bytes": path.stat().st_size,
            }
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        version = digest({name: file["sha256"] for name, file in files.items()})[:20]
        manifest = replace(manifest, files=files, version=version)
        target = home / version
        if target.is_dir():
            write_atomically(target / MANIFEST, manifest.to_json())
        else:
            write_atomically(folder / MANIFEST, manifest.to_json())
            folder.rename(target)
            _sync_folder(home)
        write_atomically(home / CURRENT, version + "\n")
        return manifest


def _sync_and_hash(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


class DigestCache:
    """Remembers the sha256 of files by path, size and change time, so that they are read once.

    An entry made within two seconds of the file's own change is not trusted: the file may have
    changed again within the same tick of the clock.
    """

    _RACY_NS = 2_000_000_000

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[int | str]] = {}
        with suppress(OSError, ValueError):
            self._known = json.loads(path.read_text())
        self._changed = False

    def digest(self, path: Path) -> str:
        """The sha256 of a file. Raises OSError where it cannot be read."""
        stat = path.stat()
        key = str(path.absolute())
        state: list[int | str] = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        known = self._known.get(key)
        if known and known[:-1] == state:
            return str(known[-1])
        content = hash_file(path)
        newest = max(stat.st_mtime_ns, stat.st_ctime_ns)
        if _now_ns() - newest > self._RACY_NS:
            self._known[key] = [*state, content]
            self._changed = True
        return content

    def save(self) -> None:
        """Writes down what was learnt; a cache that cannot be written is no error."""
        if self._changed:
            with suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self._path, json.dumps(self._known))
            self._changed = False


def _now_ns() -> int:
    import time

    return time.time_ns()
