"""Reading every artifact and comparing it with its manifest."""

from collections.abc import Iterator
from dataclasses import dataclass

from ft_assets.engine.graph import GRAPH
from ft_assets.engine.storage import DamagedError, OldVersionError, Storage
from ft_assets.errors import StageError
from ft_assets.stages.qa.ledger.batch_log import BatchLog
from ft_assets.stages.qa.ledger.ledger import REQUESTS, Ledger

LEDGER = "ledger"
"""The word used in place of a version for a ledger."""


@dataclass(frozen=True)
class Examined:
    """One version of an artifact and what of it is damaged.

    `is_old` says that an earlier version of this project made it, so that it was not looked at.
    """

    corpus: str
    asset: str
    version: str
    bytes: int
    damage: list[str]
    is_old: bool = False


def verify(storage: Storage, corpus: str) -> Iterator[Examined]:
    """Reads every version of every artifact of a corpus and compares it with its manifest."""
    for asset in GRAPH:
        for version in storage.versions(corpus, asset):
            try:
                manifest = storage.manifest(corpus, asset, version)
            except OldVersionError:
                yield Examined(corpus, asset, version, 0, [], is_old=True)
                continue
            except DamagedError as error:
                yield Examined(corpus, asset, version, 0, [str(error)])
                continue
            damage = storage.damage(manifest)
            if manifest.version != version:
                damage.append(
                    f"{storage.folder(corpus, asset, version)} has the name of another version"
                )
            size = sum(file["bytes"] for file in manifest.files.values())
            yield Examined(corpus, asset, version, size, damage)
        yield from _ledger(storage, corpus, asset)
        try:
            now = storage.current_version(corpus, asset)
        except DamagedError as error:
            yield Examined(corpus, asset, "current", 0, [str(error)])
            continue
        if now and not storage.folder(corpus, asset, now).is_dir():
            yield Examined(corpus, asset, "current", 0, [f"{asset}: version {now} is missing"])


def _ledger(storage: Storage, corpus: str, asset: str) -> Iterator[Examined]:
    """Reads what was paid for and is in no artifact, if the asset is one that pays."""
    folder = storage.keep(corpus, asset)
    if not (folder / REQUESTS).exists():
        return
    try:
        Ledger(folder)
        BatchLog(folder)
        damage = []
    except StageError as error:
        damage = [str(error)]
    yield Examined(corpus, asset, LEDGER, (folder / REQUESTS).stat().st_size, damage)
