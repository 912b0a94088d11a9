"""The commented settings file that `init` writes: every key, its default and what is allowed."""

import math
import types
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import AfterValidator
from pydantic.fields import FieldInfo

from ft_assets.cli.recipes import Recipe
from ft_assets.config import FineTuneConfig, Section, declaration
from ft_assets.manifest import Settings
from ft_assets.names import SETTINGS_FILE

_HEAD = """\
# Settings of this corpus. Every line is commented out and shows its default.
# To change one, remove the # from the line and from every section above it.
"""
_HEAD_OF_RECIPE = """\
# Settings of this corpus, begun with the recipe {name}:
#
{about}
#
# Every other line is commented out and shows its default. To change one, remove the # from the line and
# from every section above it.
"""


def commented_settings(config: FineTuneConfig) -> str:
    """All settings as YAML in comments; as written, the file changes nothing."""
    return _file(_HEAD, config, {})


def recipe_settings(config: FineTuneConfig, name: str, recipe: Recipe) -> str:
    """All settings as YAML: those of the recipe are set, the others are in comments."""
    head = _HEAD_OF_RECIPE.format(name=name, about=recipe.about)
    return _file(head, config, recipe.settings)


def _file(head: str, config: FineTuneConfig, chosen: Settings) -> str:
    lines = [head]
    for name in FineTuneConfig.model_fields:
        section: Section = getattr(config, name)
        summary = (type(section).__doc__ or "").partition("\n")[0]
        lines += [f"# {summary}", *_section(name, section, chosen), ""]
    return "\n".join(lines)


def _section(path: str, section: Section, chosen: Settings) -> Iterator[str]:
    """The heading of a section and its keys; commented out but for what is chosen."""
    *above, heading = path.split(".")
    is_set = any(key.startswith(f"{path}.") for key in chosen)
    yield f"{'' if is_set else '#'}{'  ' * len(above)}{heading}:"
    pad = "  " * (len(above) + 1)
    for name, field in type(section).model_fields.items():
        key, value = f"{path}.{name}", getattr(section, name)
        if isinstance(value, Section):
            yield from _section(key, value, chosen)
            continue
        notes = "; ".join(filter(None, (allowed(field), _limit(field))))
        mark = "" if key in chosen else "#"
        said = as_yaml(chosen.get(key, value))
        yield f"{mark}{pad}{name}: {said}" + (f"  # {notes}" if notes else "")


def _limit(field: FieldInfo) -> str:
    """What a corpus's own file may not do with a key; empty if it may set any value."""
    said = declaration(field)
    if said.whose == "owner":
        return f"only in data/{SETTINGS_FILE}"
    return "may only be lowered here" if said.cap else ""


def as_yaml(value: Any) -> str:
    """A value in one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf)
    return str(text).removesuffix("...\n").strip()


def allowed(field: FieldInfo) -> str:
    """The allowed values of a key, in words; empty if any value of its type is allowed."""
    for item in field.metadata:
        if isinstance(item, AfterValidator) and isinstance(item.func, partial):
            return f"only {as_yaml(item.func.keywords['default'])}: other values are not built yet"
    if field.description:
        return field.description
    choices = _choices(field.annotation)
    if choices:
        own = [] if "list[str]" not in str(field.annotation) else ["a list of module names"]
        return " | ".join(map(str, [*choices, *own]))
    bounds = {
        sign: getattr(item, name)
        for item in field.metadata
        for name, sign in {"ge": "at least", "gt": "above", "le": "at most"}.items()
        if getattr(item, name, None) is not None
    }
    return ", ".join(f"{sign} {_number(value)}" for sign, value in bounds.items())


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _choices(annotation: Any) -> list[Any]:
    """The literal values in a type, however deep in it."""
    origin = get_origin(annotation)
    if origin is Literal:
        return list(get_args(annotation))
    if origin in (Union, types.UnionType, list, Annotated):
        return [choice for part in get_args(annotation) for choice in _choices(part)]
    return []
