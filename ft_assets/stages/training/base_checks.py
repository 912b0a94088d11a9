"""Whether a base model can be trained as the settings and the data say: found from its small files.

None of this reads weights, so all of it is known before they are downloaded.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_assets.config import LoraSettings
from ft_assets.errors import UserError
from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.stages.models.tokenizer_cache import light_tokenizer_of
from ft_assets.stages.models.tuned_model import MXFP4, quantization_of
from ft_assets.stages.templates.tokenization import tokenized_rows
from ft_assets.stages.training.lora import check_names, reaches

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from ft_assets.stages.models.light_tokenizer import AnyTokenizer


def config_of(folder: Path) -> "PreTrainedConfig":
    """The configuration of the language model in a folder, without those of its other parts.

    Raises UserError if transformers does not know it.
    """
    from transformers import AutoConfig

    try:
        config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: its config.json cannot be used ({error})") from error
    return config.get_text_config(decoder=True)  # type: ignore[no-any-return]


def check_context(config: "PreTrainedConfig", longest: int) -> None:
    """Raises UserError if the longest training row has more tokens than the model reads."""
    context = getattr(config, "max_position_embeddings", None)
    if context and longest > context:
        raise UserError(
            f"training.max_length: the longest training row has {longest:,} tokens, and the base model "
            f"reads at most {context:,} (max_position_embeddings): set training.max_length to {context}"
        )


def check_not_quantized(folder: Path) -> None:
    """Raises UserError if the checkpoint's own weights are quantised: an adapter cannot be merged into them
    without loss. MXFP4, gpt-oss's, is loaded as bfloat16 instead."""
    method = quantization_of(folder)
    if method not in (None, MXFP4):
        raise UserError(
            f"model.base: its weights are quantised ({method}), and merging an adapter into them would lose "
            "what it learned: take the model that it was made from; model.load_in_4bit: true trains beside "
            "four bits of that one"
        )


def without_weights(config: "PreTrainedConfig") -> Any:
    """A language model of this configuration that has names and shapes and no weights."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]


def check_modules(config: "PreTrainedConfig", lora: LoraSettings) -> None:
    """Raises UserError if the base model lacks what the settings name, or LoRA cannot train it.

    The output layer cannot be trained by TRL. What is learned in an embedding that shares its weights with
    the output layer would be lost by merging. The modules are those of a model without weights.
    """
    names_any = lora.modules_to_save or lora.target_parameters
    if isinstance(lora.target_modules, str) and not names_any:
        return
    model = without_weights(config)
    model.tie_weights()
    check_names(model, lora)
    modules = dict(model.named_modules())
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    is_tied = head is not None and embedding.weight is head.weight
    targets = lora.target_modules if isinstance(lora.target_modules, list) else []
    for target in targets:
        named = [each for name, each in modules.items() if reaches(target, name)]
        if any(each is head for each in named):
            raise UserError(
                f"model.lora.target_modules: {target!r} is the output layer, which an adapter cannot train "
                "here: remove it"
            )
        if is_tied and any(each is embedding for each in named):
            raise UserError(
                f"model.lora.target_modules: the base model's embedding {target!r} shares its weights with "
                "the output layer (tie_word_embeddings), so merging would lose what it learns: remove it"
            )


def tokens_beyond(tokenizer: "AnyTokenizer", rows: int) -> dict[int, str]:
    """The tokens of a tokenizer whose ids have no row in an embedding of `rows` rows, by id."""
    vocabulary = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=True)
    return {number: token for token, number in sorted(vocabulary.items()) if number >= rows}


def beyond_embedding(token: str, number: int, rows: int) -> UserError:
    """The error for a token that is used and has no row in the embedding."""
    return UserError(
        f"the token {token!r} has the id {number:,}, and the base model's embedding has {rows:,} rows (ids 0 "
        f"to {rows - 1:,}): enlarge the embedding (resize_token_embeddings in transformers) and save the "
        "model, or take its own tokenizer"
    )


def check_template_tokens(folder: Path) -> None:
    """Raises UserError if the stop token, or a token in the chat template, has no row in the embedding.

    It reads no rows of a dataset, and needs neither torch nor transformers.
    """
    size = _vocab_size(folder)
    tokenizer = light_tokenizer_of(folder)
    text = f"{tokenizer.eos_token} {tokenizer.chat_template}"
    for number, token in tokens_beyond(tokenizer, size).items():
        if token in text:
            raise beyond_embedding(token, number, size)


def _vocab_size(folder: Path) -> int:
    """The rows of the embedding by config.json, as many as there can be if it does not say."""
    try:
        config = json.loads((folder / "config.json").read_text())
        return int((config.get("text_config") or config).get("vocab_size", 1 << 62))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{folder}: its config.json cannot be used ({error})") from error


def check_vocabulary(config: "PreTrainedConfig", dataset: Path) -> None:
    """Raises UserError if a row of a dataset has a token for which the embedding has no row.

    A tokenizer may have more tokens than the embedding has rows, as Gemma 3's has for images, if no row
    uses them.
    """
    tokenizer = tokenizer_of(dataset / "tokenizer")
    size = config.vocab_size
    if not (beyond := tokens_beyond(tokenizer, size)):
        return
    for name in ("train.parquet", "eval.parquet"):
        for row in tokenized_rows(dataset / name, tokenizer):
            if (number := max(row["input_ids"])) >= size:
                raise beyond_embedding(beyond[number], number, size)
