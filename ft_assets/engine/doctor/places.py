"""The folders that the project writes to, before they exist too."""

import os
from pathlib import Path


def storage() -> Path:
    """The storage that `FT_ASSETS_STORAGE` names."""
    return Path(os.environ.get("FT_ASSETS_STORAGE", "storage")).absolute()


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists: on the same file system, once it is made."""
    return folder if folder.is_dir() else existing(folder.parent)
