"""The tokenizer in a GGUF file as a Hugging Face folder, made without torch.

transformers makes it too (`AutoTokenizer.from_pretrained(…, gguf_file=…)`), but imports torch for it.
The files have the same bytes; a test compares them. Only byte-level BPE is known (`gpt2` in the
file's metadata), which is what the models of the pinned packages have.
"""

import json
from pathlib import Path
from typing import Any

from ft_assets.errors import StageError

_CONTROL = 3
"""The kind of token that the GGUF format gives to those that mark a turn or an end."""

_CONFIG = {
    "backend": "tokenizers",
    "is_local": True,
    "local_files_only": False,
    "model_max_length": int(1e30),  # what transformers writes for "not known"
    "tokenizer_class": "TokenizersBackend",
}


def write_tokenizer(gguf: Path, folder: Path) -> None:
    """Writes `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` into `folder`.

    Raises StageError if the file's tokenizer is of another kind.
    """
    from gguf import GGUFReader

    fields = {name: field.contents for name, field in GGUFReader(gguf).fields.items()}
    if fields["tokenizer.ggml.model"]() != "gpt2":
        raise StageError(f"{gguf.name}: its tokenizer is not byte-level BPE")
    tokens: list[str] = fields["tokenizer.ggml.tokens"]()
    merges = [_pair(line) for line in fields["tokenizer.ggml.merges"]()]
    kinds: list[int] = fields["tokenizer.ggml.token_type"]()
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    named = {
        f"{role}_token": tokens[fields[f"tokenizer.ggml.{key}_token_id"]()]
        for role, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown"))
    }
    _bpe(tokens, merges, special).save(str(folder / "tokenizer.json"))
    config = json.dumps({**_CONFIG, **named}, indent=2, sort_keys=True)
    (folder / "tokenizer_config.json").write_text(config + "\n")
    (folder / "chat_template.jinja").write_text(fields["tokenizer.chat_template"]())


def _bpe(tokens: list[str], merges: list[tuple[str, str]], special: list[str]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        models.BPE(
            vocabulary,
            merges,
            unk_token=None,
            continuing_subword_prefix="",
            end_of_word_suffix="",
        )
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A:0", pair="$A:0 $B:1")
    return tokenizer


def _pair(line: str) -> tuple[str, str]:
    first, _, second = line.partition(" ")
    return first, second
