"""The base model of an adapter as an f16 GGUF file: to chat with it, and to test the adapter's own file on it."""

from pathlib import Path

from ft_assets.stages.export.converter import convert
from ft_assets.stages.models.base_model import BaseModel
from ft_assets.stages.models.pinned_packages import PINS, cache_folder
from ft_assets.stages.models.sealed import Origin, sealed_folder

_FORM = "2"
"""To be counted up if the files become something else."""


def base_gguf(base: BaseModel) -> Path:
    """The file, converted once and then kept in the cache.

    Raises StageError if the model cannot be converted, or if the file was changed in the cache.
    """
    # A local model's revision is the digest of its files. Its location is not part of what the file is
    # made from: two folders with the same content share one conversion. The folder's name has all that
    # it is made from, so that another converter writes another folder.
    name, converter = Path(base.base.replace(":", "-")).name, PINS["llama-cpp-python"].sha256
    folder = sealed_folder(
        cache_folder() / "models" / f"{name}-{base.revision[:16]}-f16-{converter[:8]}-{_FORM}",
        Origin(name, base.revision, converter),
        lambda empty: convert(base.folder, empty / "base-f16.gguf", "f16", name),
    )
    return folder / "base-f16.gguf"
