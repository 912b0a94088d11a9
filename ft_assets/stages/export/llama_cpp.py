"""llama.cpp, as a library: quantises, opens and queries GGUF files."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_assets.errors import StageError, UserError
from ft_assets.extras import require
from ft_assets.names import LORA_ENDING
from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.stages.models.tokenizer_cache import light_tokenizer_of
from ft_assets.stages.templates.conversations import CannotRenderError
from ft_assets.stages.templates.markers import Escape, escape_for, rendered_probes
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager

if TYPE_CHECKING:
    from llama_cpp import Llama


def is_model_file(name: str) -> bool:
    """Whether a file of an export is a model: not an adapter, which needs one."""
    return name.endswith(".gguf") and not name.endswith(LORA_ENDING)


def megabytes(path: Path) -> float:
    """The size of a file in MB (10^6 bytes), to one decimal."""
    return round(path.stat().st_size / 1e6, 1)


_FALLBACK = re.compile(r"(\d+ of \d+) tensor\(s\) required fallback")


def quantize(source: Path, target: Path, kind: str) -> str | None:
    """Turns a GGUF file that is not quantised into one of another type with llama.cpp.

    Returns how many tensors have a larger type, as in `14 of 21`, because their rows are not a multiple of
    its block; None if none has. Raises StageError if it fails.
    """
    import llama_cpp

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = file_type(kind)
    parameters.nthread = os.cpu_count() or 1
    with captured_log() as log:
        code = llama_cpp.llama_model_quantize(
            str(source).encode(), str(target).encode(), parameters
        )
    if code:
        reason = "".join(log).strip().rpartition("\n")[2].rpartition("failed to quantize: ")[2]
        raise StageError(
            f"llama.cpp cannot quantise the model to {kind} ({reason}): take {kind} out of export.gguf"
        )
    fallback = _FALLBACK.search("".join(log))
    return fallback[1] if fallback else None


def file_type(kind: str) -> int:
    """llama.cpp's number for a type of GGUF file."""
    import llama_cpp

    what = "ALL" if kind == "f32" else "MOSTLY"
    return int(getattr(llama_cpp, f"LLAMA_FTYPE_{what}_{kind.upper()}"))


@contextmanager
def captured_log() -> Iterator[list[str]]:
    """Collects llama.cpp's log instead of printing it to the terminal."""
    import llama_cpp
    from llama_cpp._logger import llama_log_callback as usual

    lines: list[str] = []
    callback = llama_cpp.llama_log_callback(
        lambda level, text, _: lines.append(text.decode("utf-8", "replace"))
    )
    llama_cpp.llama_log_set(callback, None)
    try:
        yield lines
    finally:
        llama_cpp.llama_log_set(usual, None)


MAX_CONTEXT = 8_192
"""Tokens of a conversation: the memory of a longer one can be larger than the model."""


def open_gguf(path: Path, context: int = 2048) -> "Llama":
    """Opens a GGUF file with llama.cpp, with room for `context` tokens; 0 takes as many as the model has, but
    at most MAX_CONTEXT.

    Raises UserError if the extra `gguf` is not installed, and StageError for a bad file.
    """
    require("gguf", path.name)
    from llama_cpp import Llama, llama_model_n_ctx_train

    try:
        if not context:  # the weights are mapped, so opening the file twice costs little
            model = Llama(str(path), n_ctx=256, verbose=False)
            context = min(llama_model_n_ctx_train(model.model), MAX_CONTEXT)
            model.close()
        return Llama(str(path), n_ctx=context, verbose=False, seed=0)
    except ValueError as error:
        raise StageError(f"{path}: llama.cpp cannot load it ({error})") from error


def escape_of(model: "Llama") -> Escape:
    """The escape for markers in a question, by the GGUF file's own tokens and template."""
    import llama_cpp
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    vocabulary = llama_cpp.llama_model_get_vocab(model.model)
    special: list[str] = []
    others: list[str] = []
    forbidden = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
    for token in range(model.n_vocab()):
        kind = llama_cpp.llama_vocab_get_attr(vocabulary, token)
        if kind & (forbidden | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED):
            text = llama_cpp.llama_vocab_get_text(vocabulary, token).decode("utf-8", "replace")
            (special if kind & forbidden else others).append(text)
    template = model.metadata["tokenizer.chat_template"]

    def render(messages: list[Any], generate: bool) -> str:
        formatter = Jinja2ChatFormatter(template, "", "", add_generation_prompt=generate)
        return str(formatter(messages=messages).prompt)

    return escape_for(special, others, template, rendered_probes(render))


def ask(model: "Llama", question: str, max_new_tokens: int) -> str:
    """The model's greedy answer through the GGUF file's own chat template."""
    reply: Any = model.create_chat_completion(
        messages=[{"role": "user", "content": escape_of(model)(question)}],
        max_tokens=max_new_tokens,
        temperature=0.0,
    )
    return str(reply["choices"][0]["message"]["content"]).strip()


def adds_bos(model: "Llama") -> bool:
    """Whether llama.cpp, and so Ollama, puts the begin-of-sequence token before what it is given."""
    import llama_cpp

    return bool(llama_cpp.llama_vocab_get_add_bos(llama_cpp.llama_model_get_vocab(model.model)))


def token_parity(model: "Llama", merged: Path) -> tuple[bool, str]:
    """Whether a conversation has the same token ids in Hugging Face and in llama.cpp, with a message.

    One side renders it with the tokenizer's template, the other with the GGUF file's, so this compares
    templates as well as vocabularies.
    """
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    tokenizer = tokenizer_of(merged)
    ours = PromptTemplateManager(tokenizer).prompt(_PROBE)
    formatter = Jinja2ChatFormatter(
        template=model.metadata["tokenizer.chat_template"],
        eos_token=tokenizer.eos_token or "",
        bos_token=tokenizer.bos_token or "",
    )
    return _equal_ids(model, tokenizer, ours, formatter(messages=_PROBE).prompt)


def vocabulary_parity(model: "Llama", folder: Path) -> tuple[bool, str]:
    """Whether a text has the same token ids in Hugging Face and in llama.cpp, with a message.

    Unlike `token_parity` it compares no templates: a base model may have none, or one that is replaced.
    """
    tokenizer = light_tokenizer_of(folder)
    text = "\n".join(message["content"] for message in _PROBE)
    with suppress(CannotRenderError, UserError):
        text = PromptTemplateManager(tokenizer).prompt(_PROBE)
    return _equal_ids(model, tokenizer, text, text)


_PROBE: list[Any] = [
    {"role": "user", "content": "Où est le café? 東京 🙂  two  spaces\nand a line"},
    {"role": "assistant", "content": "À gauche."},
    {"role": "user", "content": "Merci."},
]


def _equal_ids(model: "Llama", tokenizer: Any, ours: str, theirs: str) -> tuple[bool, str]:
    ids = tokenizer(ours, add_special_tokens=False)["input_ids"]
    llama_ids = model.tokenize(theirs.encode(), add_bos=False, special=True)
    if ids == llama_ids:
        return True, f"{len(ids)} token ids are equal in Hugging Face and llama.cpp"
    same = next(
        (at for at, pair in enumerate(zip(ids, llama_ids, strict=False)) if pair[0] != pair[1]),
        min(len(ids), len(llama_ids)),
    )
    ours, theirs = (", ".join(map(str, each[same : same + 8])) for each in (ids, llama_ids))
    return False, f"token ids differ after {same}: Hugging Face {ours}; llama.cpp {theirs}"
