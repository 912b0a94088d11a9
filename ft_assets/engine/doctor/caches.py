"""The cached packages and models, compared with their seals."""

from ft_assets.engine.doctor.line import Line
from ft_assets.stages.models.pinned_packages import cache_folder
from ft_assets.stages.models.sealed import REPAIR
from ft_assets.stages.models.sealed_cache import cached, is_left_over
from ft_assets.stages.words import counted


def model_cache() -> Line:
    """Whether every cached folder is as it was sealed."""
    name, everything = "cached models", list(cached())
    folders = [(folder, problem) for folder, problem in everything if not is_left_over(folder)]
    if not folders:
        cost = "the demo's model and llama.cpp's converter are fetched at first use, with a network"
        return Line(name, "note", f"none yet in {cache_folder()}", cost)
    damaged = [f"{folder.name}: {problem}" for folder, problem in folders if problem]
    if damaged:
        return Line(name, "missing", "; ".join(damaged), f"they are not used; to repair: {REPAIR}")
    found = f"{len(folders)} in {cache_folder()}, unchanged"
    if left_over := len(everything) - len(folders):
        cost = f"{counted(left_over, 'folder')} of an earlier version: only taking up space; to remove: {REPAIR}"
        return Line(name, "note", found, cost)
    return Line(name, "ok", found)
