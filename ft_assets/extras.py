"""The optional parts of the project: the extras in `pyproject.toml`.

The base install prepares data and runs the graph. A machine that does only that does not need torch.
"""

from importlib.util import find_spec

from ft_assets.errors import UserError

EXTRAS = {
    "train": ("torch", "trl", "peft", "accelerate", "datasets"),
    "gguf": ("llama_cpp",),
    "qa": ("anthropic", "langchain"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "trackio": ("trackio",),
    "ui": ("dagster_webserver", "starlette", "uvicorn"),
}
"""The modules that each extra installs and that our code imports."""


def missing(extra: str) -> list[str]:
    """The modules of an extra that are not installed; found without importing them."""
    return [name for name in EXTRAS[extra] if find_spec(name) is None]


def require(extra: str, what: str) -> None:
    """Raises UserError with the install command if an extra that `what` needs is missing."""
    if names := missing(extra):
        raise UserError(
            f"{what} needs the extra {extra!r}, which is not installed (no module "
            f"{', '.join(names)}). In the checkout run: "
            f"pip install -c constraints.txt '.[{extra}]'"
        )
