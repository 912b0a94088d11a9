"""Artifacts on a local POSIX disk; the one place that knows where they are.

    <root>/<corpus>/<asset>/<version>/…            an artifact, its manifest.json written last; in
                                                   sources.parquet the documents behind it
    <root>/<corpus>/<asset>/current                the version in use, replaced in one step
    <root>/<corpus>/<asset>/.staging-*/            work in progress, never read
    <root>/<corpus>/<asset>/ledger/                what outlives the versions: paid answers
    <root>/<corpus>/<asset>/checkpoints/<…>/       what an interrupted build resumes from, by the
                                                   fingerprint that it would have had

Importable without Dagster.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ft_assets.engine import lease
from ft_assets.errors import StageError, no_room
from ft_assets.files import hash_file, link_or_copy, sync_folder, write_atomically
from ft_assets.manifest import (
    MANIFEST,
    PENDING_SOURCES,
    SOURCES,
    FileDigest,
    Manifest,
    OldSchemaError,
    digest,
    pending_sources,
    sources_path,
)
from ft_assets.records import SourceDocument
from ft_assets.tables import ROW_GROUP, load_lean_pyarrow, read_batches, write_table

if TYPE_CHECKING:
    import pyarrow as pa


CURRENT = "current"
LEDGER = "ledger"
"""The folder of an asset that outlives its versions: the answers that were paid for."""
CHECKPOINTS = "checkpoints"
RUNS = "runs"
"""The folder of an asset with the logs of its trainings, in no version: they hold times and names."""
_STAGING = ".staging-"
_AGAIN = "To rebuild it: ft-assets refresh {0.corpus} --until {0.asset} --force"


class DamagedError(StageError):
    """An artifact is not what its manifest says."""


class OldVersionError(DamagedError):
    """An artifact was built by an earlier version of this project; it counts as never built."""


class Storage:
    """Artifacts below one root folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: dict[Path, tuple[tuple[int, ...], Manifest]] = {}

    def home(self, corpus: str, asset: str) -> Path:
        """Where the versions of an artifact are."""
        return self.root / corpus / asset

    def keep(self, corpus: str, asset: str) -> Path:
        """A folder of the asset's own that no version is in and that nothing here removes."""
        return self.home(corpus, asset) / LEDGER

    def checkpoints(self, corpus: str, asset: str, fingerprint: str) -> Path:
        """Where a build with this fingerprint keeps what it can resume from."""
        return self.home(corpus, asset) / CHECKPOINTS / fingerprint[:20]

    def left_checkpoints(self, corpus: str, asset: str, but: str = "") -> list[Path]:
        """The checkpoints of interrupted builds, without those of the fingerprint `but`."""
        folders = (self.home(corpus, asset) / CHECKPOINTS).glob("*")
        return sorted(path for path in folders if path.name != but[:20])

    def remove_checkpoints(self, corpus: str, asset: str, but: str = "") -> bool:
        """Removes `left_checkpoints`; whether there were any."""
        left = self.left_checkpoints(corpus, asset, but)
        for path in left:
            shutil.rmtree(path, ignore_errors=True)
        if not but:
            shutil.rmtree(self.home(corpus, asset) / CHECKPOINTS, ignore_errors=True)
        return bool(left)

    def runs(self, corpus: str, asset: str, fingerprint: str) -> Path:
        """Where a build with this fingerprint keeps its logs."""
        return self.home(corpus, asset) / RUNS / fingerprint[:20]

    def logged(self, corpus: str, asset: str) -> list[Path]:
        """The folders of `runs` that exist."""
        folders = (self.home(corpus, asset) / RUNS).glob("*")
        return sorted(path for path in folders if _VERSION.fullmatch(path.name) and path.is_dir())

    def folder(self, corpus: str, asset: str, version: str) -> Path:
        """Where a version of an artifact is."""
        return self.home(corpus, asset) / version

    def corpora(self) -> list[str]:
        """The corpora that have artifacts."""
        if not self.root.is_dir():
            return []
        return sorted(
            path.name for path in self.root.iterdir() if path.is_dir() and path.name[0] != "."
        )

    def current_version(self, corpus: str, asset: str) -> str | None:
        """The version in use, or None if nothing was published.

        Raises DamagedError if `current` holds none.
        """
        path = self.home(corpus, asset) / CURRENT
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        version = text.removesuffix("\n")
        if text != f"{version}\n" or not _VERSION.fullmatch(version):
            raise DamagedError(f"{path} does not hold a version: refresh to rebuild the artifact")
        return version

    def current(self, corpus: str, asset: str) -> Manifest | None:
        """The manifest of the version in use, or None if nothing usable was published.

        Raises DamagedError if the manifest that `current` names cannot be read.
        """
        version = self.current_version(corpus, asset)
        if version is None or not self.folder(corpus, asset, version).is_dir():
            return None
        return self.manifest(corpus, asset, version)

    def manifest(self, corpus: str, asset: str, version: str) -> Manifest:
        """The manifest of one version, read once while its file is the same.

        A manifest is replaced by a new file, never written over. Raises DamagedError if it
        cannot be read.
        """
        path = self.folder(corpus, asset, version) / MANIFEST
        try:
            stat = path.stat()
            state = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            known, manifest = self._read.get(path, (None, None))
            if manifest is None or known != state:
                manifest = Manifest.from_json(path.read_text(encoding="utf-8"))
                self._read[path] = (state, manifest)
            return manifest
        except OldSchemaError as error:
            raise OldVersionError(
                f"{path.parent} was built by an earlier version of ft-assets (manifest {error}), so it "
                "counts as never built; nothing of it is deleted"
            ) from error
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DamagedError(
                f"{path} is damaged ({error}): refresh to rebuild the artifact"
            ) from error

    def versions(self, corpus: str, asset: str) -> list[str]:
        """The versions that exist, the one published last first."""
        home = self.home(corpus, asset)
        if not home.is_dir():
            return []
        folders = [
            path
            for path in home.iterdir()
            if path.is_dir()
            and path.name[0] != "."
            and path.name not in (LEDGER, CHECKPOINTS, RUNS)
        ]
        folders.sort(key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
        return [path.name for path in folders]

    def history(self, corpus: str, asset: str) -> Iterator[Manifest]:
        """The manifests of the versions that exist, newest first, without damaged ones."""
        for version in self.versions(corpus, asset):
            with suppress(DamagedError):
                yield self.manifest(corpus, asset, version)

    def sources(self, manifest: Manifest) -> Iterator[SourceDocument]:
        """The documents behind an artifact. Raises DamagedError if they cannot be read."""
        for batch in self.sources_table(manifest).to_batches(ROW_GROUP):
            yield from (SourceDocument(**row) for row in batch.to_pylist())

    def sources_table(self, manifest: Manifest, columns: list[str] | None = None) -> "pa.Table":
        """The same, or some columns of it, as an Arrow table."""
        load_lean_pyarrow()
        import pyarrow as pa

        folder = self.folder(manifest.corpus, manifest.asset, manifest.version)
        path = sources_path(folder, manifest)
        try:
            return pa.concat_tables(read_batches(path, columns))
        except (OSError, ValueError) as error:  # pyarrow's errors are of both kinds
            raise DamagedError(f"{path} is damaged ({error}): {_AGAIN.format(manifest)}") from error

    def damage(self, manifest: Manifest) -> list[str]:
        """What of an artifact is not as its manifest says, found by reading all of it."""
        folder = self.folder(manifest.corpus, manifest.asset, manifest.version)
        sources = sources_path(folder, manifest).name
        return _damage(folder, {**manifest.files, sources: manifest.sources})

    def require_whole(self, manifest: Manifest) -> None:
        """Raises DamagedError if an artifact does not match its manifest."""
        if damage := self.damage(manifest):
            raise DamagedError(
                f"{'; '.join(damage)}: the artifact is damaged. {_AGAIN.format(manifest)}"
            )

    @contextmanager
    def hold(
        self,
        corpus: str,
        asset: str,
        run_id: str,
        is_over: lease.IsOver,
        on_wait: lease.OnWait = lambda run_id: None,
    ) -> Iterator[lease.Lease]:
        """Keeps other processes from making the same artifact; the second one in waits.

        What earlier, killed holders left behind is removed first.
        """
        with lease.hold(self.home(corpus, asset), run_id, is_over, on_wait) as held:
            with held.publishing():  # what is there now is no later holder's
                left = [path for path in held.home.glob(".*") if _LEFT.match(path.name)]
            for path in left:
                shutil.rmtree(path, ignore_errors=True)
                if path.is_file():
                    path.unlink(missing_ok=True)
            yield held

    @contextmanager
    def staging(self, held: lease.Lease) -> Iterator[Path]:
        """An empty folder on the storage's own disk, gone afterwards whatever happens.

        A full disk becomes a StageError, and any error a LostLeaseError if the run was given up.
        """
        folder = Path(tempfile.mkdtemp(dir=held.home, prefix=_STAGING))
        try:
            yield folder
        except Exception as error:
            with held.publishing():  # a run that was given up finds its folder gone
                pass
            if isinstance(error, OSError) and (full := no_room(error, self.root)):
                raise full from error
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(
        self, held: lease.Lease, folder: Path, manifest: Manifest, nearest: Manifest | None = None
    ) -> Manifest:
        """Makes the content of a staging folder the current version of its artifact.

        Completes the manifest with the files and the version, which is the digest of their content.
        Where the folder has no SOURCES, or the same as the artifact `nearest` upstream, that one's are
        linked. Where that version is there already, whole, only its manifest and SOURCES are replaced.
        Raises LostLeaseError if the lease is another's by now.
        """
        with held.publishing():  # before the hashing, which can be long
            pass
        folder.chmod(0o755)
        sources = self._share_sources(folder / SOURCES, nearest)
        files = {name: _sync_and_hash(folder / name) for name in _files(folder) if name != SOURCES}
        version = digest({name: file["sha256"] for name, file in files.items()})[:20]
        manifest = replace(manifest, files=files, sources=sources, version=version)
        for path in folder.rglob("*"):
            if path.is_dir():
                sync_folder(path)
        write_atomically(folder / MANIFEST, manifest.to_json())
        with held.publishing():
            self._put_in_place(held.home, folder, manifest)
            write_atomically(held.home / CURRENT, f"{version}\n")
        shutil.rmtree(held.home / f"{_STAGING}damaged-{version}", ignore_errors=True)
        return manifest

    def _share_sources(self, path: Path, nearest: Manifest | None) -> FileDigest:
        """Makes equal lists of documents one file: a link to the nearest artifact's."""
        if nearest is None:
            if not path.exists():
                write_table(path, SourceDocument, [])
            return _sync_and_hash(path)
        folder = self.folder(nearest.corpus, nearest.asset, nearest.version)
        theirs = sources_path(folder, nearest)
        if path.exists():
            own = _sync_and_hash(path)
            if own != nearest.sources:
                return own
            path.unlink()
        link_or_copy(theirs, path)
        if _sync_and_hash(path) != nearest.sources:  # it was whole when this artifact was begun
            raise DamagedError(f"{theirs} is damaged. {_AGAIN.format(nearest)}")
        return nearest.sources

    def _put_in_place(self, home: Path, folder: Path, manifest: Manifest) -> None:
        """Renames the folder to its version; if that is there, whole, replaces what says how it was made.

        The documents are put beside the old ones, then the manifest is replaced, then they take their
        place: see `manifest.sources_path`.
        """
        target = home / manifest.version
        if target.is_dir() and not _damage(target, manifest.files):
            for left in target.glob(f"{PENDING_SOURCES}*"):
                left.unlink()
            (folder / SOURCES).replace(target / pending_sources(manifest))
            sync_folder(target)
            (folder / MANIFEST).replace(target / MANIFEST)
            self.settle(manifest)
            return
        if target.is_dir():
            target.rename(home / f"{_STAGING}damaged-{manifest.version}")
        folder.rename(target)
        sync_folder(home)

    def settle(self, manifest: Manifest) -> None:
        """Puts the documents of an artifact in their place, if a process died before it had."""
        folder = self.folder(manifest.corpus, manifest.asset, manifest.version)
        with suppress(FileNotFoundError):
            (folder / pending_sources(manifest)).replace(folder / SOURCES)
            sync_folder(folder)

    def use_again(self, held: lease.Lease, manifest: Manifest) -> None:
        """Makes an older version the current one."""
        with held.publishing():
            write_atomically(held.home / CURRENT, f"{manifest.version}\n")

    def stats(self, corpus: str, asset: str, version: str) -> list[os.stat_result]:
        """What the disk has of each file of one version."""
        folder = self.folder(corpus, asset, version)
        return [(folder / name).stat() for name in _files(folder)]

    def remove(self, corpus: str, asset: str, version: str) -> None:
        """Removes one version, or what is below CHECKPOINTS or RUNS; nobody sees it half-removed."""
        folder = self.folder(corpus, asset, version)
        home = self.home(corpus, asset)
        shutil.rmtree(folder.rename(home / f"{_STAGING}removed-{folder.name}"))


_LEFT = re.compile(r"\.(staging|current|lease\.json)-.*")
_VERSION = re.compile(r"[0-9a-f]{20}")


def _files(folder: Path) -> list[str]:
    """The files below a folder, by their POSIX paths inside it."""
    return [
        path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()
    ]


def _sync_and_hash(path: Path) -> FileDigest:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return FileDigest(sha256=sha256, bytes=file.tell())


def _damage(folder: Path, files: Mapping[str, FileDigest]) -> list[str]:
    """What of a folder is not as `files` say, and what is in it besides."""
    found = []
    for name, item in files.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{path} is missing")
        elif path.stat().st_size != item["bytes"]:
            found.append(f"{path} has {path.stat().st_size} bytes, not {item['bytes']}")
        elif hash_file(path) != item["sha256"]:
            found.append(f"{path} does not have the sha256 that its manifest names")
    known = {*files, MANIFEST, SOURCES}
    extra = (
        name
        for name in _files(folder)
        if name not in known and not name.startswith(PENDING_SOURCES)
    )
    return found + [f"{folder / name} is not in the manifest" for name in extra]
