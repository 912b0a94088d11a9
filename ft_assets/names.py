"""Names that all rooms share: the assets, and the files of a corpus that are not documents."""

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
