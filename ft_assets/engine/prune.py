"""Removing old versions of artifacts that nothing kept was made from, and checkpoints and logs of no use."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ft_assets.engine.graph import GRAPH
from ft_assets.engine.lease import holder
from ft_assets.engine.storage import CHECKPOINTS, RUNS, DamagedError, OldVersionError, Storage
from ft_assets.errors import UserError
from ft_assets.manifest import Manifest


@dataclass(frozen=True)
class Pruned:
    """One version that was removed, or would be, and the bytes that this frees.

    `version` is `checkpoints/…` for what an interrupted build left, `runs/…` for the logs of a training.
    """

    corpus: str
    asset: str
    version: str
    bytes: int


NextFingerprint = Callable[[str, str], str | None]
"""Gives the fingerprint that an asset of a corpus would have if it were made now."""


def prune(
    storage: Storage,
    corpus: str,
    keep: int,
    *,
    dry_run: bool,
    next_fingerprint: NextFingerprint | None = None,
) -> list[Pruned] | None:
    """Removes old versions of a corpus's artifacts; None if one is being built now.

    Kept are the current version of each asset, the `keep` published last, whatever the manifest of one
    that is kept names, what an earlier version of this project made, and the checkpoints that a refresh
    would resume from; all checkpoints, if it is not known which those are. The logs of trainings are kept
    with the versions and checkpoints that they belong to; of several trainings of one, those of the last.
    """
    if any(holder(storage.home(corpus, asset)) for asset in GRAPH):
        return None
    kept = _kept(storage, corpus, keep)
    names: Counter[int] = Counter()
    found = []
    for asset in reversed(GRAPH):
        for version in storage.versions(corpus, asset):
            if (asset, version) not in kept:
                freed = _freed(storage.stats(corpus, asset, version), names)
                found.append(Pruned(corpus, asset, version, freed))
    if next_fingerprint:
        found += _unused_checkpoints(storage, corpus, next_fingerprint)
        found += _unused_logs(storage, corpus, kept, next_fingerprint)
    for item in () if dry_run else found:
        storage.remove(corpus, item.asset, item.version)
    return found


def _unused_checkpoints(
    storage: Storage, corpus: str, next_fingerprint: NextFingerprint
) -> Iterator[Pruned]:
    """The checkpoints that no refresh would resume from, with the settings and data as they are."""
    for asset in GRAPH:
        if not storage.left_checkpoints(corpus, asset):
            continue
        try:
            usable = next_fingerprint(corpus, asset) or ""
        except UserError:  # settings that cannot be read now may be mended
            continue
        for folder in storage.left_checkpoints(corpus, asset, but=usable):
            size = sum(path.stat().st_size for path in _files_in(folder))
            yield Pruned(corpus, asset, f"{CHECKPOINTS}/{folder.name}", size)


def _unused_logs(
    storage: Storage, corpus: str, kept: set[tuple[str, str]], next_fingerprint: NextFingerprint
) -> Iterator[Pruned]:
    """The logs of trainings that neither led to a version that is kept nor would be resumed."""
    for asset in GRAPH:
        folders = storage.logged(corpus, asset)
        if not folders:
            continue
        try:
            usable = {next_fingerprint(corpus, asset) or ""}
        except UserError:
            continue
        for version in (version for name, version in kept if name == asset):
            with suppress(DamagedError):
                usable.add(storage.manifest(corpus, asset, version).fingerprint)
        names = {storage.runs(corpus, asset, fingerprint).name for fingerprint in usable}
        for folder in folders:
            times = sorted(path.name for path in folder.iterdir())
            left = [f"/{time}" for time in times[:-1]] if folder.name in names else [""]
            for below in left:
                size = sum(p.stat().st_size for p in _files_in(folder / below.strip("/")))
                yield Pruned(corpus, asset, f"{RUNS}/{folder.name}{below}", size)


def _files_in(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _freed(files: list[os.stat_result], names: Counter[int]) -> int:
    """The bytes of the files whose last name goes: versions share what they have in common.

    `names` counts how many names of each file went with the versions before.
    """
    freed = 0
    for stat in files:
        names[stat.st_ino] += 1
        freed += stat.st_size if names[stat.st_ino] == stat.st_nlink else 0
    return freed


def _kept(storage: Storage, corpus: str, keep: int) -> set[tuple[str, str]]:
    kept: set[tuple[str, str]] = set()
    for asset in reversed(GRAPH):  # consumers first: what they name is kept for them
        versions = storage.versions(corpus, asset)
        old = {version for version in versions if _is_old(storage, corpus, asset, version)}
        kept |= {(asset, version) for version in old}
        versions = [version for version in versions if version not in old]
        now = storage.current_version(corpus, asset)
        kept |= {(asset, version) for version in [*versions[:keep], *([now] if now else [])]}
        for version in versions:
            if (asset, version) in kept:
                kept |= _named(storage.manifest(corpus, asset, version))
    return kept


def _is_old(storage: Storage, corpus: str, asset: str, version: str) -> bool:
    try:
        storage.manifest(corpus, asset, version)
    except OldVersionError:
        return True
    except DamagedError:
        return False
    return False


def _named(manifest: Manifest) -> set[tuple[str, str]]:
    return {(name, version) for name, version in manifest.inputs.items() if name in GRAPH}
