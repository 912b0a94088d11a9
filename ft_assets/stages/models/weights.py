"""Which files hold a model's weights, and what their headers say of them, without reading them.

A repository may hold the weights twice, as `consolidated.safetensors` or below `original/` beside the
files that transformers reads: those are `model.safetensors`, or what `model.safetensors.index.json` names.
"""

import json
import math
import struct
from pathlib import Path
from typing import Any

from ft_assets.errors import UserError

_MAX_HEADER = 100 << 20
"""The limit of the safetensors format."""


SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def weight_names(model: Path) -> list[str]:
    """The files that hold the weights of the model in a folder, whether they are there or not.

    Raises UserError for an index that does not name files of the folder.
    """
    index = model / INDEX
    if (model / SINGLE).is_file() or not index.is_file():
        return [SINGLE]
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{index}: not an index of weights ({type(error).__name__}: {error})"
        ) from error
    if not names or not all(_is_weights(name) for name in names):
        raise UserError(f"{index}: it must name *.safetensors files of its own folder")
    return names


def _is_weights(name: object) -> bool:
    return isinstance(name, str) and name.endswith(".safetensors") and Path(name).name == name


def weights_missing(model: Path) -> list[str]:
    """Those of the files that hold a model's weights which are not in its folder."""
    return [name for name in weight_names(model) if not (model / name).is_file()]


def parameters_of(model: Path) -> int:
    """The number of parameters of the model in a folder; 0 if it has no safetensors files.

    Raises UserError for a file that is not safetensors.
    """
    return sum(map(math.prod, tensor_shapes(model).values()))


def tensor_shapes(model: Path) -> dict[str, list[int]]:
    """The shapes of the tensors of the model in a folder, by their names, as far as its files are there.

    Raises UserError for a file that is not safetensors.
    """
    return {
        name: tensor["shape"]
        for path in map(model.joinpath, weight_names(model))
        if path.is_file()
        for name, tensor in _header(path).items()
        if name != "__metadata__"
    }


def tensor_names(model: Path) -> set[str]:
    """The names of the tensors of the model in a folder.

    Raises UserError for a file that is not safetensors.
    """
    names = {name for path in model.glob("*.safetensors") for name in _header(path)}
    return names - {"__metadata__"}


def _header(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            [size] = struct.unpack("<Q", file.read(8))
            if size > _MAX_HEADER:
                raise ValueError("its header is too long")
            header: dict[str, Any] = json.loads(file.read(size))
            return header
    except (struct.error, ValueError) as error:
        raise UserError(f"{path}: not a safetensors file ({error})") from error
