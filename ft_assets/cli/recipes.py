"""Recipes: the settings that a family of models needs, files in `ft_assets/recipes/`."""

from importlib.resources import files
from typing import NamedTuple

import yaml

from ft_assets.config import did_you_mean
from ft_assets.errors import UserError
from ft_assets.manifest import Settings

_FOLDER = files("ft_assets") / "recipes"
_ENDING = ".yaml"


class Recipe(NamedTuple):
    """What one should know about a family, as lines of comment, and its settings by dotted key."""

    about: str
    settings: Settings


def names() -> list[str]:
    """The recipes that come with the project."""
    found = (entry.name for entry in _FOLDER.iterdir())
    return sorted(name.removesuffix(_ENDING) for name in found if name.endswith(_ENDING))


def recipe(name: str) -> Recipe:
    """A recipe by its name. Raises UserError, listing all of them, if there is none of that name."""
    if name not in names():
        hint = did_you_mean(name, names(), "; ")
        raise UserError(f"there is no recipe {name!r}; the recipes: {', '.join(names())}{hint}")
    text = (_FOLDER / f"{name}{_ENDING}").read_text(encoding="utf-8")
    about = [line for line in text.splitlines() if line.startswith("#")]
    return Recipe("\n".join(about), _flat(yaml.safe_load(text)))


def _flat(section: dict[str, object], path: str = "") -> Settings:
    """The values of nested mappings by dotted key."""
    found: Settings = {}
    for name, value in section.items():
        below = _flat(value, f"{path}{name}.") if isinstance(value, dict) else {path + name: value}
        found |= below  # type: ignore[arg-type]
    return found
