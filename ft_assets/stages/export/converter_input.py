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
from typing import TYPE_CHECKING

from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.stages.templates.chat import adds_bos

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CONFIG = "tokenizer_config.json"
_SPACE = "▁"


@contextmanager
def converter_input(model: Path) -> Iterator[Path]:
    """A folder of links to the model's files, with those settings of the tokenizer put right."""
    config = json.loads((model / _CONFIG).read_text()) if (model / _CONFIG).is_file() else {}
    tokenizer = tokenizer_of(model)
    config["add_bos_token"] = adds_bos(tokenizer)
    config["add_eos_token"] = False  # no prompt ends with it
    spaced = spaces_after_tokens(tokenizer)
    if spaced is not None:
        config["add_prefix_space"] = spaced
    with tempfile.TemporaryDirectory(prefix="ft-assets-convert-") as scratch:
        folder = Path(scratch)
        for path in model.absolute().iterdir():
            if path.name != _CONFIG:
                (folder / path.name).symlink_to(path)
        (folder / _CONFIG).write_text(json.dumps(config))
        yield folder


def spaces_after_tokens(tokenizer: "PreTrainedTokenizerBase") -> bool | None:
    """Whether a tokenizer puts a space before text that follows a special token, as some SentencePiece
    vocabularies do; None if its vocabulary is of another kind.
    """
    if tokenizer.unk_token_id is None or _SPACE not in tokenizer.get_vocab():
        return None
    ids = tokenizer(f"{tokenizer.eos_token}a", add_special_tokens=False)["input_ids"]
    return str(tokenizer.convert_ids_to_tokens(ids[1])).startswith(_SPACE)
