"""The cached packages, models and tokenizers as a whole: which are as they were sealed, and removing the others."""

from collections.abc import Iterator
from pathlib import Path

from ft_assets.stages.models.base_model import package_models
from ft_assets.stages.models.pinned_packages import PINS, cache_folder, origin_of, package_folder
from ft_assets.stages.models.sealed import SEAL, Origin, damage, remove

ROOMS = ("packages", "models", "tokenizers", "conversions", "languages")


def cached() -> Iterator[tuple[Path, str | None]]:
    """Every folder in the cache with what is wrong with it, or None."""
    wanted: dict[Path, Origin] = {package_folder(name): origin_of(name) for name in PINS}
    wanted |= package_models()
    for room in ROOMS:
        for folder in sorted((cache_folder() / room).glob("[!.]*")):
            yield folder, damage(folder, wanted.get(folder))


def is_left_over(folder: Path) -> bool:
    """Whether a cached folder is from an earlier version of this project, which knew no seals."""
    in_use = {*package_models(), *(package_folder(name) for name in PINS)}
    return folder not in in_use and not (folder / SEAL).exists()


def remove_damaged() -> list[tuple[Path, str]]:
    """Removes the folders that are not as they were sealed; gives them with what was wrong.

    What was kept by an earlier version of this project has no seal and goes too.
    """
    found = [(folder, problem) for folder, problem in cached() if problem]
    for folder, _ in found:
        remove(folder)
    return found
