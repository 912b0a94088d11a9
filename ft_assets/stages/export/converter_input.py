"""A model's folder as llama.cpp's converter should see it.

The converter reads a few settings in `tokenizer_config.json` that transformers neither goes by nor
saves. So they are asked of the tokenizer itself: otherwise a GGUF file would put a space, or a
begin-of-sequence token, where training had none.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_assets.stages.models.tokenizer import added_tokens, tokenizer_of
from ft_assets.stages.templates.chat import adds_bos

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CONFIG = "tokenizer_config.json"
_SPACE = "▁"


@contextmanager
def converter_input(model: Path) -> Iterator[Path]:
    """A folder of links to the model's files, with those settings of the tokenizer put right."""
    config = json.loads((model / _CONFIG).read_text()) if (model / _CONFIG).is_file() else {}
    config |= _asked(tokenizer_of(model))
    with tempfile.TemporaryDirectory(prefix="ft-assets-convert-") as scratch:
        folder = Path(scratch)
        for path in model.absolute().iterdir():
            if path.name != _CONFIG:
                (folder / path.name).symlink_to(path)
        (folder / _CONFIG).write_text(json.dumps(config))
        yield folder


def _asked(tokenizer: "PreTrainedTokenizerBase") -> dict[str, Any]:
    """What the converter is told of a tokenizer."""
    added = tokenizer.added_tokens_decoder.values()
    told = {
        "add_bos_token": adds_bos(tokenizer),
        "add_eos_token": False,  # no prompt ends with it
        # Of some families only the named ones would be special in the GGUF file.
        "extra_special_tokens": [token.content for token in added if token.special],
        "added_tokens_decoder": added_tokens(tokenizer),
    }
    spaced = spaces_after_tokens(tokenizer)
    return told if spaced is None else {**told, "add_prefix_space": spaced}


def spaces_after_tokens(tokenizer: "PreTrainedTokenizerBase") -> bool | None:
    """Whether a tokenizer puts a space before text that follows a special token, as some SentencePiece
    vocabularies do; None if its vocabulary is of another kind.
    """
    if tokenizer.unk_token_id is None or _SPACE not in tokenizer.get_vocab():
        return None
    ids = tokenizer(f"{tokenizer.eos_token}a", add_special_tokens=False)["input_ids"]
    return str(tokenizer.convert_ids_to_tokens(ids[1])).startswith(_SPACE)
