"""JSON Lines files that are only ever appended to, read back line by line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ft_assets.errors import StageError


def replay(path: Path, take: Callable[[dict[str, Any], int], None], loss: str) -> int:
    """Gives `take` each line of a file with its offset; returns the bytes of the whole lines.

    A last line that is not whole was torn by a crash, and never acted on. Raises StageError for one that
    is damaged, where `take` raises ValueError, KeyError or TypeError too; `loss` says what goes with it.
    """
    size = 0
    if not path.is_file():
        return size
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                take(json.loads(line), size)
            except (ValueError, KeyError, TypeError) as error:
                raise StageError(
                    f"{path}:{number} is damaged ({type(error).__name__}: {error}). Restore the file, or "
                    f"remove that line: {loss}"
                ) from error
            size += len(line)
    return size
