"""The report: every line, in order. Later parts of the project add a function here."""

from collections.abc import Callable

from ft_assets.engine.doctor.caches import model_cache
from ft_assets.engine.doctor.file_system import storage_files
from ft_assets.engine.doctor.isolation import isolation
from ft_assets.engine.doctor.line import Line
from ft_assets.engine.doctor.machine import disk, gpu, memory, python
from ft_assets.engine.doctor.programs import cmake, compiler, extras, ocrmypdf
from ft_assets.engine.doctor.settings import dagster_folder, keys

LINES: tuple[Callable[[], Line], ...] = (
    python,
    memory,
    disk,
    gpu,
    compiler,
    cmake,
    extras,
    ocrmypdf,
    isolation,
    storage_files,
    dagster_folder,
    model_cache,
    keys,
)


def report() -> list[Line]:
    """Every line. One that cannot be checked says so, and does not affect the others."""
    return [_line(find) for find in LINES]


def _line(find: Callable[[], Line]) -> Line:
    try:
        return find()
    except Exception as error:
        name = find.__name__.replace("_", " ")
        return Line(name, "note", f"could not be checked ({type(error).__name__}: {error})")


def verdict(lines: list[Line]) -> str:
    """What all lines come to, in one."""
    needed = [line.name for line in lines if line.state == "missing" and line.essential]
    useful = [line.name for line in lines if line.state == "missing" and not line.essential]
    if needed:
        return f"the project cannot work here: {', '.join(needed)}"
    if useful:
        return f"the project works here, but something is missing: {', '.join(useful)}"
    return "everything needed is there"


def is_enough(lines: list[Line]) -> bool:
    """Whether the project can work here."""
    return not any(line.essential and line.state == "missing" for line in lines)
