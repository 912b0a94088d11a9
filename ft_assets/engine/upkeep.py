"""Care for artifacts at rest: what is damaged is found, what is old and unused goes."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ft_assets.engine.graph import GRAPH
from ft_assets.engine.lease import holder
from ft_assets.engine.storage import DamagedError, Storage
from ft_assets.errors import StageError
from ft_assets.manifest import Manifest
from ft_assets.stages.qa.ledger.batch_log import BatchLog
from ft_assets.stages.qa.ledger.ledger import REQUESTS, Ledger

LEDGER = "ledger"
"""What stands for the version where it is a ledger that is looked at."""
KEEP = 2
"""Versions of each asset that are kept by default, the current one among them."""


@dataclass(frozen=True)
class Verdict:
    """One version of an artifact and what of it is damaged."""

    corpus: str
    asset: str
    version: str
    bytes: int
    damage: list[str]


def verify(storage: Storage, corpus: str) -> Iterator[Verdict]:
    """Reads every version of every artifact of a corpus and compares it with its manifest."""
    for asset in GRAPH:
        for version in storage.versions(corpus, asset):
            try:
                manifest = storage.manifest(corpus, asset, version)
            except DamagedError as error:
                yield Verdict(corpus, asset, version, 0, [str(error)])
                continue
            damage = storage.damage(manifest)
            if manifest.version != version:
                damage.append(
                    f"{storage.folder(corpus, asset, version)} has another version's name"
                )
            size = sum(file["bytes"] for file in manifest.files.values())
            yield Verdict(corpus, asset, version, size, damage)
        if asset == "qa_pairs":
            yield from _ledger(storage, corpus)
        try:
            now = storage.current_version(corpus, asset)
        except DamagedError as error:
            yield Verdict(corpus, asset, "current", 0, [str(error)])
            continue
        if now and not storage.folder(corpus, asset, now).is_dir():
            yield Verdict(corpus, asset, "current", 0, [f"{asset}: version {now} is not there"])


def _ledger(storage: Storage, corpus: str) -> Iterator[Verdict]:
    """Reads what was paid for and stands in no artifact."""
    folder = storage.keep(corpus, "qa_pairs")
    if not (folder / REQUESTS).exists():
        return
    try:
        Ledger(folder)
        BatchLog(folder)
        damage = []
    except StageError as error:
        damage = [str(error)]
    yield Verdict(corpus, "qa_pairs", LEDGER, (folder / REQUESTS).stat().st_size, damage)


@dataclass(frozen=True)
class Pruned:
    """One version that was removed, or would be, and the bytes that this frees."""

    corpus: str
    asset: str
    version: str
    bytes: int


def prune(storage: Storage, corpus: str, keep: int, *, dry_run: bool) -> list[Pruned] | None:
    """Removes old versions of a corpus's artifacts; None where one is being made just now.

    Kept are the current version of each asset, the `keep` published last, and whatever the manifest
    of one that is kept names.
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
    for item in () if dry_run else found:
        storage.remove(corpus, item.asset, item.version)
    return found


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
        now = storage.current_version(corpus, asset)
        kept |= {(asset, version) for version in [*versions[:keep], *([now] if now else [])]}
        for version in versions:
            if (asset, version) in kept:
                kept |= _named(storage.manifest(corpus, asset, version))
    return kept


def _named(manifest: Manifest) -> set[tuple[str, str]]:
    return {(name, version) for name, version in manifest.inputs.items() if name in GRAPH}
