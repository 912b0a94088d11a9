"""The tokenizer in a model folder."""

import copy
import json
import os
import shutil
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


SENTENCEPIECE = "tokenizer.model"
"""The vocabulary of SentencePiece models: transformers does not save it, llama.cpp's converter reads it."""


def save_tokenizer(tokenizer: "PreTrainedTokenizerBase", base: Path, folder: Path) -> None:
    """Saves a tokenizer, with what `base`, the model it came with, has of it that transformers does not
    write: the SentencePiece vocabulary, and beside it the tokens that were added to that.
    """
    tokenizer.save_pretrained(folder)
    if not (base / SENTENCEPIECE).is_file():
        return
    shutil.copyfile(base / SENTENCEPIECE, folder / SENTENCEPIECE)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config["added_tokens_decoder"] = added_tokens(tokenizer)
    path.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def added_tokens(tokenizer: "PreTrainedTokenizerBase") -> dict[str, dict[str, Any]]:
    """The tokens that were added to a vocabulary, as `tokenizer_config.json` has them."""
    return {
        str(place): {
            "content": token.content,
            "lstrip": token.lstrip,
            "normalized": token.normalized,
            "rstrip": token.rstrip,
            "single_word": token.single_word,
            "special": token.special,
        }
        for place, token in tokenizer.added_tokens_decoder.items()
    }


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
