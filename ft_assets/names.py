"""Names that all rooms share: the assets, the types of GGUF files, and the files of a corpus that are not
documents.
"""

from typing import Literal, get_args

SETTINGS_FILE = "finetune.yaml"
QUESTIONS_FILE = "questions.jsonl"
REVIEW_FILE = "qa_review.jsonl"
TEMPLATE_SUFFIX = ".jinja"

AssetName = Literal[
    "raw_documents",
    "chunks",
    "qa_pairs",
    "formatted_dataset",
    "adapter",
    "evaluation",
    "merged_model",
    "gguf",
]
ASSET_NAMES: tuple[AssetName, ...] = get_args(AssetName)
"""The made assets in the order of the graph."""

GGUFType = Literal[
    "f32",
    "f16",
    "bf16",
    "Q8_0",
    "Q6_K",
    "Q5_K_M",
    "Q5_K_S",
    "Q5_1",
    "Q5_0",
    "Q4_K_M",
    "Q4_K_S",
    "Q4_1",
    "Q4_0",
    "IQ4_NL",
    "IQ4_XS",
    "Q3_K_L",
    "Q3_K_M",
    "Q3_K_S",
    "IQ3_M",
    "IQ3_S",
    "Q2_K",
    "MXFP4_MOE",
    "TQ2_0",
    "TQ1_0",
    "Q2_0",
    "Q1_0",
]
"""The types of GGUF files that llama.cpp writes without an importance matrix, spelled as it spells them."""
GGUF_TYPES: tuple[GGUFType, ...] = get_args(GGUFType)
NOT_QUANTISED: tuple[GGUFType, ...] = ("f32", "f16", "bf16")
WITH_MATRIX = frozenset(
    ("IQ3_XS", "IQ3_XXS", "Q2_K_S", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S")
)
"""The types that llama.cpp refuses to write without an importance matrix."""
LORA_ENDING = "-lora.gguf"
"""How the name of an adapter's GGUF file ends: unlike the others, it is not a model."""
