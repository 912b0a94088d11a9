"""Nano models of the families that people fine-tune: as their publishers have them, but for the size.

Vocabularies and chat templates are those in llama.cpp's source (`stages/templates/families.py`). If a
family's own vocabulary is in no package, another one stands for it, with the family's special tokens
added. Each model is a real one of transformers' class for the family, with random weights.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ft_assets_tests.sentencepiece_file import write_sentencepiece
from ft_assets_tests.stages.templates.families import add_bos, models, vocabulary

_SIZES: Mapping[str, Any] = MappingProxyType(
    {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "pad_token_id": None,
    }
)


@dataclass(frozen=True)
class NanoFamily:
    """What makes a family: see the fields of `Family`, and `architecture`, the class in transformers.

    `stops` are the tokens in its `generation_config.json`. `words` is the number of rows of the embedding
    if that is more than the vocabulary. `sentencepiece` adds the `tokenizer.model` that its publisher
    has. `experts` are the parameters of its experts, if LoRA does not reach them by itself.
    """

    architecture: str
    vocabulary: str
    template: str
    eos: str
    bos: str | None = None
    pad: str | None = None
    begins_with_bos: bool = True
    added: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    words: int | None = None
    sentencepiece: bool = False
    strips_right: bool = False
    tokenizer_class: str = "PreTrainedTokenizerFast"
    experts: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)


_LLAMA_STOPS = ("<|end_of_text|>", "<|eot_id|>")
_THINK = ("<think>", "</think>")
_EXPERTS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")
_INST = ("[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]")


def _llama(size: str, factor: float, *, tied: bool) -> NanoFamily:
    """A Llama 3, which differs from others of its kind by the factor of its rope and by tied embeddings."""
    rope = {
        "rope_type": "llama3",
        "factor": factor,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 1024,
        "rope_theta": 500_000.0,
    }
    return NanoFamily(
        "LlamaForCausalLM",
        "llama-bpe",
        f"meta-llama-Llama-{size}-Instruct",
        "<|eot_id|>",
        "<|begin_of_text|>",
        stops=_LLAMA_STOPS,
        config={"rope_parameters": rope, "tie_word_embeddings": tied},
    )


_QWEN: dict[str, Any] = {
    "vocabulary": "qwen2",
    "tokenizer_class": "Qwen2Tokenizer",
    "eos": "<|im_end|>",
    "pad": "<|endoftext|>",
    "stops": ("<|im_end|>", "<|endoftext|>"),
}
_GEMMA: dict[str, Any] = {
    "vocabulary": "gemma-4",
    "tokenizer_class": "GemmaTokenizer",
    "bos": "<bos>",
    "eos": "<eos>",
    "pad": "<pad>",
}
_SMALL_EXPERTS = {"num_experts_per_tok": 2, "tie_word_embeddings": False}

_SENTENCEPIECE_SIZE = 32_000
"""Pieces of Llama 2's vocabulary, which Mistral 7B and Phi-3.5 begin with."""

FAMILIES = {
    "llama3.1": _llama("3.1-8B", 8.0, tied=False),
    "llama3.2": _llama("3.2-3B", 32.0, tied=True),
    "qwen2.5": NanoFamily(
        "Qwen2ForCausalLM",
        template="Qwen-Qwen2.5-7B-Instruct",
        words=151_936,
        config={"tie_word_embeddings": True},
        **_QWEN,
    ),
    "qwen3": NanoFamily(
        "Qwen3ForCausalLM",
        template="Qwen-Qwen3-0.6B",
        plain=_THINK,
        words=151_936,
        config={"head_dim": 16, "tie_word_embeddings": True},
        **_QWEN,
    ),
    "qwen3-moe": NanoFamily(
        "Qwen3MoeForCausalLM",
        template="Qwen-Qwen3-0.6B",
        plain=_THINK,
        words=151_936,
        config={**_SMALL_EXPERTS, "head_dim": 16, "num_experts": 4, "moe_intermediate_size": 32},
        **_QWEN,
    ),
    "qwen3.5": NanoFamily(
        "Qwen3_5ForCausalLM",
        template="Qwen3.5-4B",
        config={
            "num_hidden_layers": 4,
            "head_dim": 32,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "mtp_num_hidden_layers": 1,
            "tie_word_embeddings": True,
        },
        **{**_QWEN, "vocabulary": "qwen35"},
    ),
    "mistral": NanoFamily(
        "MistralForCausalLM",
        "llama-spm",
        "mistralai-Mistral-Nemo-Instruct-2407",
        "</s>",
        "<s>",
        added=_INST,
        stops=("</s>",),
        sentencepiece=True,
        tokenizer_class="LlamaTokenizerFast",
        config={"sliding_window": None, "tie_word_embeddings": False},
    ),
    "mixtral": NanoFamily(
        "MixtralForCausalLM",
        "llama-spm",
        "mistralai-Mistral-Nemo-Instruct-2407",
        "</s>",
        "<s>",
        added=_INST,
        stops=("</s>",),
        sentencepiece=True,
        tokenizer_class="LlamaTokenizerFast",
        config={**_SMALL_EXPERTS, "num_local_experts": 4, "sliding_window": None},
    ),
    "gemma3": NanoFamily(
        "Gemma3ForCausalLM",
        template="google-gemma-2-2b-it",
        added=("<start_of_turn>", "<end_of_turn>"),
        stops=("<eos>", "<end_of_turn>"),
        config={
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
            "sliding_window": 64,
            "tie_word_embeddings": True,
        },
        **_GEMMA,
    ),
    "gemma4": NanoFamily(
        "Gemma4ForCausalLM",
        template="google-gemma-4-31B-it",
        stops=("<eos>", "<turn|>"),
        config={
            "head_dim": 16,
            "global_head_dim": 32,
            "num_hidden_layers": 6,
            "num_kv_shared_layers": 0,
            "hidden_size_per_layer_input": 0,
            "sliding_window": 64,
            "tie_word_embeddings": True,
        },
        **_GEMMA,
    ),
    "gpt-oss": NanoFamily(
        "GptOssForCausalLM",
        "llama-bpe",
        "openai-gpt-oss-120b",
        "<|return|>",
        "<|startoftext|>",
        begins_with_bos=False,
        added=(
            "<|startoftext|>",
            "<|return|>",
            "<|start|>",
            "<|end|>",
            "<|channel|>",
            "<|message|>",
            "<|call|>",
        ),
        stops=("<|return|>", "<|call|>"),
        experts=_EXPERTS,
        config={**_SMALL_EXPERTS, "head_dim": 16, "num_local_experts": 4, "sliding_window": 64},
    ),
    "phi3.5": NanoFamily(
        "Phi3ForCausalLM",
        "phi-3",
        "microsoft-Phi-3.5-mini-instruct",
        "<|endoftext|>",
        "<s>",
        "<|endoftext|>",
        begins_with_bos=False,
        stops=("<|end|>", "<|assistant|>", "<|endoftext|>"),
        words=32_064,
        sentencepiece=True,
        tokenizer_class="LlamaTokenizerFast",
        strips_right=True,
        config={"num_key_value_heads": 4, "tie_word_embeddings": False},
    ),
    "granite": NanoFamily(
        "GraniteForCausalLM",
        "llama-bpe",
        "ibm-granite-granite-4.0",
        "<|end_of_text|>",
        added=("<|start_of_role|>", "<|end_of_role|>"),
        stops=("<|end_of_text|>",),
        config={
            "embedding_multiplier": 12.0,
            "attention_multiplier": 0.0156,
            "residual_multiplier": 0.22,
            "logits_scaling": 8.0,
            "tie_word_embeddings": True,
        },
    ),
    "smollm3": NanoFamily(
        "SmolLM3ForCausalLM",
        "llama-bpe",
        "HuggingFaceTB-SmolLM3-3B",
        "<|im_end|>",
        added=("<|im_start|>", "<|im_end|>"),
        plain=_THINK,
        stops=("<|im_end|>",),
        config={"tie_word_embeddings": True},
    ),
    # The converter knows a vocabulary by the ids of a text, the first token included: so that stays.
    "deepseek-r1-distill": NanoFamily(
        "LlamaForCausalLM",
        "llama-bpe",
        "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
        "<｜end▁of▁sentence｜>",
        "<|begin_of_text|>",
        added=("<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
        plain=_THINK,
        stops=("<｜end▁of▁sentence｜>",),
        config={"tie_word_embeddings": False},
    ),
    "glm4.5": NanoFamily(
        "Glm4MoeForCausalLM",
        "llama-bpe",
        "GLM-4.6",
        "<|endoftext|>",
        added=(
            "<|endoftext|>",
            "[gMASK]",
            "<sop>",
            "<|system|>",
            "<|user|>",
            "<|assistant|>",
            "<|observation|>",
        ),
        plain=(*_THINK, "/nothink"),
        stops=("<|endoftext|>", "<|user|>", "<|observation|>"),
        config={
            "head_dim": 16,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "first_k_dense_replace": 1,
            "num_nextn_predict_layers": 1,
            "n_group": 1,
            "topk_group": 1,
            "partial_rotary_factor": 0.5,
            "tie_word_embeddings": False,
        },
    ),
}


def nano_tokenizer(name: str) -> Any:
    """The tokenizer of a family as its publisher has it, with its chat template."""
    from transformers import AddedToken

    family = FAMILIES[name]
    tokenizer: Any = vocabulary(family.vocabulary)
    for texts, special in ((family.added, True), (family.plain, False)):
        tokens = [AddedToken(text, special=special, normalized=False) for text in texts]
        tokenizer.add_tokens(tokens, special_tokens=special)
    tokenizer.eos_token, tokenizer.bos_token = family.eos, family.bos
    tokenizer.pad_token = family.pad
    add_bos(tokenizer, family.begins_with_bos)
    template = models() / "templates" / f"{family.template}.jinja"
    tokenizer.chat_template = template.read_text()
    return tokenizer


def make_nano(name: str, folder: Path) -> Path:
    """Writes a nano model of a family into `folder`."""
    import torch
    import transformers

    family = FAMILIES[name]
    tokenizer = nano_tokenizer(name)
    architecture = getattr(transformers, family.architecture)
    size = max(max(tokenizer.get_vocab().values()) + 1, family.words or 0)
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "vocab_size": size,
    }
    torch.manual_seed(0)
    model = architecture(architecture.config_class(**{**_SIZES, **ids, **family.config}))
    stops = tokenizer.convert_tokens_to_ids(list(family.stops))
    model.generation_config.eos_token_id = stops
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _as_published(family, folder)
    return folder


def _as_published(family: NanoFamily, folder: Path) -> None:
    """Changes the tokenizer's files to what publishers have, who saved them years ago."""
    path = folder / "tokenizer_config.json"
    config = {**json.loads(path.read_text()), "tokenizer_class": family.tokenizer_class}
    for key in ("backend", "is_local", "local_files_only"):
        config.pop(key)
    path.write_text(json.dumps(config, indent=2))
    if family.sentencepiece:
        gguf = models() / f"ggml-vocab-{family.vocabulary}.gguf"
        write_sentencepiece(gguf, folder / "tokenizer.model", _SENTENCEPIECE_SIZE)
    if family.strips_right:
        path = folder / "tokenizer.json"
        content = json.loads(path.read_text())
        for token in content["added_tokens"]:
            token["rstrip"] = token["content"] not in ("<unk>", "<s>", "<|endoftext|>")
        path.write_text(json.dumps(content))
