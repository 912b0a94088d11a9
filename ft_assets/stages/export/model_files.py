"""The GGUF files of a model: which type is converted, and which are made of that.

llama.cpp's converter takes longer than everything after it, so it runs once if one file can be what the others
are made of. Nothing is rounded twice on the way to a file: a type with fewer digits than the model has is
never made of another one with fewer, and quantised types are never made of bf16 if the model has more.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ft_assets.names import NOT_QUANTISED, GGUFType
from ft_assets.stages.export.converter import convert
from ft_assets.stages.export.llama_cpp import megabytes, quantize
from ft_assets.stages.job import Report

_NAMES: dict[str, GGUFType] = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


class Plan(NamedTuple):
    """How files are made: `source` is converted first, even if nobody asked for it, and those of the types that
    are not in `converted` are made of it. It is None if nothing is.
    """

    source: GGUFType | None
    converted: tuple[GGUFType, ...]


def plan(kinds: Sequence[GGUFType], own: GGUFType) -> Plan:
    """How to make files of these types from a model whose weights are of the type `own`."""
    usual: GGUFType = "bf16" if own == "bf16" else "f16"
    asked = [kind for kind in ("f32", usual, "f16") if kind in kinds]
    source: GGUFType = asked[0] if asked else usual
    is_exact = source in ("f32", own)
    converted = tuple(
        kind for kind in kinds if kind == source or (kind in NOT_QUANTISED and not is_exact)
    )
    return Plan(source if set(kinds) - set(converted) else None, converted)


def own_type(model: Path) -> GGUFType:
    """The type of a model's weights, by its configuration; f32 if that does not say."""
    config = json.loads((model / "config.json").read_text())
    parts = [config, config.get("text_config") or {}]
    said = [part.get(key) for part in parts for key in ("dtype", "torch_dtype")]
    return next((_NAMES[each] for each in said if each in _NAMES), "f32")


def kind_of(file: Path) -> str:
    """The type in the name of a file of an export; `lora` for an adapter's."""
    return file.stem.rpartition("-")[2]


def write_files(
    model: Path, output: Path, name: str, kinds: Sequence[GGUFType], report: Report
) -> dict[Path, str | None]:
    """Writes one GGUF file for each of `kinds`, and reports each.

    Maps each to how many of its tensors have a larger type, if any has: see `quantize`. Raises StageError
    with llama.cpp's reason if it cannot write one.
    """
    source, converted = plan(kinds, own_type(model))

    def path(kind: GGUFType) -> Path:
        return output / f"{name}-{kind}.gguf"

    for kind in {*converted, *([source] if source else [])}:
        convert(model, path(kind), kind, name)
    files: dict[Path, str | None] = {}
    for kind in kinds:
        larger = (
            None if kind in converted or not source else quantize(path(source), path(kind), kind)
        )
        said = f" ({larger} tensors have a larger type)" if larger else ""
        report(f"{path(kind).name}: {megabytes(path(kind)):.0f} MB{said}")
        files[path(kind)] = larger
    if source and source not in kinds:
        path(source).unlink()
    return files
