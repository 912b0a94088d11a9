"""The tokenizer of a model without transformers, which saves it once: see `light_tokenizer`.

What it saved is kept in the tool cache, by the digest of the model's files and the versions of the
libraries, sealed and checked before each use as all that is there.
"""

import copy
import hashlib
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_assets.children import python, run
from ft_assets.errors import UserError
from ft_assets.files import hash_files
from ft_assets.stages.models.light_tokenizer import LightTokenizer
from ft_assets.stages.models.pinned_packages import cache_folder
from ft_assets.stages.models.saved_tokenizer import REFUSED
from ft_assets.stages.models.sealed import Origin, sealed_folder
from ft_assets.stages.models.tokenizer import state_of, tokenizer_of

if TYPE_CHECKING:
    from ft_assets.stages.models.light_tokenizer import AnyTokenizer

ROOM = "tokenizers"
"""The part of the tool cache that they are kept in."""
_FORM = "1"
"""To be counted up if what is saved becomes something else."""
_WEIGHTS = {".safetensors", ".gguf", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".ot"}


class _NotSavedError(Exception):
    """The tokenizer could not be saved, for a reason that transformers alone can tell."""


def light_tokenizer_of(folder: Path) -> "AnyTokenizer":
    """The tokenizer in a model folder, whose template the caller may change.

    It is transformers' own if no other gives the same ids. Raises UserError if there is none that can
    be used, StageError if it was changed in the cache.
    """
    found = _load(folder, state_of(folder))
    return copy.copy(found) if found else tokenizer_of(folder)


@lru_cache(maxsize=2)
def _load(folder: Path, state: tuple[Any, ...]) -> LightTokenizer | None:
    """The tokenizer from the cache; `state` is what it is remembered by in this process."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    origin = _origin(folder)
    kept = cache_folder() / ROOM / hashlib.sha256(repr(origin).encode()).hexdigest()[:32]
    try:
        return LightTokenizer.load(sealed_folder(kept, origin, lambda empty: _save(folder, empty)))
    except _NotSavedError:
        return None


def _origin(folder: Path) -> Origin:
    from importlib.metadata import version

    tools = [f"{name} {version(name)}" for name in ("transformers", "tokenizers")]
    made_by = ", ".join([*tools, f"form {_FORM}"])
    return Origin("tokenizer", made_by, hash_files(folder, small_files(folder)))


def small_files(folder: Path) -> Iterator[Path]:
    """All files of a model but its weights."""
    for path in (*folder.iterdir(), *folder.glob("additional_chat_templates/*.jinja")):
        if path.is_file() and not path.name.startswith(".") and path.suffix not in _WEIGHTS:
            yield path


def _save(model: Path, empty: Path) -> None:
    command = python(
        "ft_assets.stages.models.saved_tokenizer", str(model.absolute()), str(empty.absolute())
    )
    done = run("converter", command, OPENBLAS_NUM_THREADS="1")
    if done.returncode == REFUSED:
        raise UserError(done.stdout.strip())
    if done.returncode:
        raise _NotSavedError
