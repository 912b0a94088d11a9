"""The tokenizer in a model folder."""

import copy
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_assets.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def tokenizer_of(folder: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer in a model folder, whose template the caller may change.

    Corpora that are refreshed by one process and share a base model have it read once. Raises
    UserError if there is none that can be used.
    """
    return copy.copy(_load_tokenizer(folder, state_of(folder)))


def state_of(folder: Path) -> tuple[Any, ...]:
    """The names, sizes and times of the files in a model folder: while they are the same, so is it.

    Raises UserError if there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    return tuple(
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.iterdir())
    )


@lru_cache(maxsize=2)
def _load_tokenizer(folder: Path, state: tuple[Any, ...]) -> "PreTrainedTokenizerBase":
    """Reads the tokenizer; `state` of its files is there for the cache."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: its tokenizer cannot be loaded ({error})") from error
    if tokenizer.eos_token is None:
        raise UserError(
            f"{folder}: its tokenizer has no end-of-sequence token to stop at: set eos_token in its "
            "tokenizer_config.json"
        )
    return tokenizer
