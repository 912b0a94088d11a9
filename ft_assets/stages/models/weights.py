"""What the headers of safetensors files say of a model's weights, without reading them."""

import json
import math
import struct
from pathlib import Path
from typing import Any

from ft_assets.errors import UserError

_MAX_HEADER = 100 << 20
"""The limit of the safetensors format."""


def parameters_of(model: Path) -> int:
    """The number of parameters of the model in a folder; 0 if it has no safetensors files.

    Raises UserError for a file that is not safetensors.
    """
    return sum(
        math.prod(tensor["shape"])
        for path in sorted(model.glob("*.safetensors"))
        for name, tensor in _header(path).items()
        if name != "__metadata__"
    )


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
