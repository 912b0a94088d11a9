"""The cached packages and models, compared with their seals."""

from ft_assets.engine.doctor.line import Line
from ft_assets.stages.models.pinned_packages import cache_folder
from ft_assets.stages.models.sealed import REPAIR
from ft_assets.stages.models.sealed_cache import cached


def model_cache() -> Line:
    """Whether every cached folder is as it was sealed."""
    name, folders = "cached models", list(cached())
    if not folders:
        cost = "the demo's model and llama.cpp's converter are fetched at first use, with a network"
        return Line(name, "note", f"none yet in {cache_folder()}", cost)
    damaged = [f"{folder.name}: {problem}" for folder, problem in folders if problem]
    if damaged:
        return Line(name, "missing", "; ".join(damaged), f"they are not used; to repair: {REPAIR}")
    return Line(name, "ok", f"{len(folders)} in {cache_folder()}, as they were sealed")
