"""How the two YAML files of a corpus become one `FineTuneConfig`, and what is wrong with them.

`data/finetune.yaml` holds the defaults of all corpora, `data/<corpus>/finetune.yaml` what differs.
Every error names file, line, key, the value and what is allowed, and all are reported at once.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from ft_assets.config import FineTuneConfig, Section, all_settings, did_you_mean, shown
from ft_assets.engine.bounded_yaml import UnreadableYAMLError, read_yaml
from ft_assets.engine.powers import refusals
from ft_assets.errors import UserError
from ft_assets.files import KB, read_users_file
from ft_assets.names import SETTINGS_FILE


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the user's input."""

    file: Path
    line: int | None
    key: str | None
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class SettingsError(UserError):
    """Everything that is wrong with the settings of one corpus, not just the first thing."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


MAX_BYTES = 256 * KB
"""The largest settings file that is read."""
Key = tuple[str, ...]

MOVED: dict[str, str] = {}
"""Settings and sections of older versions whose key changed: the old dotted key, and the new one."""


def _walk(node: yaml.Node, key: Key = ()) -> Iterator[tuple[Key, yaml.Node, yaml.Node]]:
    """Yields (key, key node, value node) of every entry of a mapping, outer ones first."""
    if not isinstance(node, yaml.MappingNode):
        return
    for name, value in node.value:
        here = (*key, str(name.value))
        yield here, name, value
        yield from _walk(value, here)


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[Key, int], list[Problem]]:
    """Reads one settings file: its content, the line of each key, and what is wrong with it."""
    try:
        node, content = read_yaml(read_users_file(path, MAX_BYTES))
    except FileNotFoundError:
        return {}, {}, []
    except UserError as error:
        return {}, {}, [Problem(path, None, None, str(error).removeprefix(f"{path} "))]
    except UnreadableYAMLError as error:
        return {}, {}, [Problem(path, error.line, None, f"cannot be read as YAML: {error}")]
    if node is None:
        return {}, {}, []
    if not isinstance(content, dict):
        return {}, {}, [Problem(path, 1, None, "must be a mapping of sections to settings")]
    lines: dict[Key, int] = {}
    twice: set[Key] = set()
    problems = []
    for key, name, _ in _walk(node):
        line = name.start_mark.line + 1
        if key in lines and not any(key[:depth] in twice for depth in range(len(key))):
            twice.add(key)
            message = f"duplicate key (first on line {lines[key]}): remove one"
            problems.append(Problem(path, line, ".".join(key), message))
        lines[key] = line
    return content, lines, problems


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merges mappings deeply; `over` wins, and anything but a mapping is replaced whole."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = _merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def _without_empty(content: dict[str, Any], model: Any) -> dict[str, Any]:
    """`content` without sections that have a heading and nothing below it."""
    kept = {}
    for key, value in content.items():
        field = model.model_fields.get(key)
        below = field.annotation if field else None
        is_section = isinstance(below, type) and issubclass(below, Section)
        if value is None and is_section:
            continue
        nested = is_section and isinstance(value, dict)
        kept[key] = _without_empty(value, below) if nested else value
    return kept


def locate(data: Path, corpus: str, key: str) -> tuple[Path, int | None]:
    """The file and line in which a corpus's dotted `key` is set, or its own file and no line."""
    for path in (data / corpus / SETTINGS_FILE, data / SETTINGS_FILE):
        if line := _read_yaml(path)[1].get(tuple(key.split("."))):
            return path, line
    return data / corpus / SETTINGS_FILE, None


def _known_keys(key: Key) -> list[str]:
    """The settings allowed at the place of `key`."""
    model: Any = FineTuneConfig
    for part in key[:-1]:
        inner = model.model_fields[part].annotation
        # A section that may be left out is a union of itself and None.
        model = next(iter(get_args(inner)), inner)
    return list(model.model_fields)


def _places(name: str) -> list[str]:
    """The dotted keys of all settings and sections that have this name."""
    keys = [key.split(".") for key, _ in all_settings()]
    found = {".".join(key[:depth]) for key in keys for depth in range(1, len(key) + 1)}
    return sorted(key for key in found if key.rpartition(".")[2] == name)


def _unknown(key: Key) -> str:
    """What to do about a key that is not a setting: it moved, belongs elsewhere or is misspelt."""
    here = ".".join(key)
    moved = [
        f"{old} is now {new}" for old, new in MOVED.items() if f"{old}.".startswith(f"{here}.")
    ]
    if moved:
        return f"moved: {', '.join(moved)}"
    if places := _places(key[-1]):
        return f"unknown setting; it belongs at {' or '.join(places)}"
    known = _known_keys(key)
    hint = did_you_mean(key[-1], known) or f"allowed are {', '.join(known)}"
    return f"unknown setting; {hint}"


def _describe(key: Key, error: Any) -> str:
    """What pydantic says of one value, in the words of a settings file."""
    if error["type"] == "extra_forbidden":
        return _unknown(key)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"{error['loc'][-1]} is missing"
    if error["type"] == "too_short":
        return "give at least one"
    if error["type"] == "model_type":
        return f"{shown(error['input'])} is not allowed: settings of its own belong below it"
    if isinstance(error["input"], dict | BaseModel):
        return str(message)
    if error["type"] == "literal_error":
        return _no_choice(error["input"], error["ctx"]["expected"], message)
    return f"{shown(error['input'])} is not allowed: {message[0].lower()}{message[1:]}"


_MANY = 12
"""Choices that are too many to be told if it is known which one is likely to be meant."""


def _no_choice(value: Any, expected: str, message: str) -> str:
    """What to say of a value that is none of those in `expected`, and which one is likely to be meant."""
    choices = re.findall(r"'([^']*)'", expected)
    hint = did_you_mean(str(value), choices, "; ")
    if hint and len(choices) > _MANY:
        return f"{shown(value)} is not allowed{hint}"
    return f"{shown(value)} is not allowed: {message[0].lower()}{message[1:]}{hint}"


def _problems(error: ValidationError, lines: dict[Key, tuple[Path, int]]) -> list[Problem]:
    """Places each of pydantic's errors in the file and line that it comes from."""
    found: dict[Key, Problem] = {}
    for item in error.errors():
        location = tuple(str(part) for part in item["loc"])
        key = location
        # A value in a list or a union has parts in its location that are in no file.
        while key and key not in lines:
            key = key[:-1]
        file, line = lines.get(key, (Path(SETTINGS_FILE), 0))
        problem = Problem(file, line or None, ".".join(key), _describe(key, item))
        if key in found:  # the other branches of a union, or a second bad entry of a list
            problem = Problem(file, line or None, ".".join(key), _join(found[key], problem))
        found[key] = problem
    return list(found.values())


def _join(first: Problem, second: Problem) -> str:
    return (
        first.message if second.message in first.message else f"{first.message}; {second.message}"
    )


def load_config(data: Path, corpus: str) -> FineTuneConfig:
    """The settings of one corpus, from the owner's file and its own.

    Raises SettingsError with every problem of both files, and with what its own file may not set.
    """
    owners, own = data / SETTINGS_FILE, data / corpus / SETTINGS_FILE
    common, common_lines, common_problems = _read_yaml(owners)
    content, own_lines, own_problems = _read_yaml(own)
    problems = common_problems + own_problems
    lines = {key: (owners, line) for key, line in common_lines.items()}
    refused = [
        Problem(own, own_lines.get(tuple(key.split("."))), key, why)
        for key, why in refusals(content, _owners_config(common), data)
    ]
    lines |= {key: (own, line) for key, line in own_lines.items()}
    try:
        merged = _without_empty(_merge(common, content), FineTuneConfig)
        config = FineTuneConfig.model_validate(merged)
    except ValidationError as error:
        found = _problems(error, lines)
        problems += found
        wrong = [f"{each.key}." for each in found]
        # A value that nobody may set is not worth moving to another file.
        refused = [
            each for each in refused if not any(key.startswith(f"{each.key}.") for key in wrong)
        ]
    problems += refused
    if problems:
        raise SettingsError(sorted(problems, key=lambda problem: (problem.file, problem.line or 0)))
    return config


def _owners_config(content: dict[str, Any]) -> FineTuneConfig:
    """The owner's file by itself; the defaults if it is wrong, which is a problem of its own."""
    try:
        return FineTuneConfig.model_validate(_without_empty(content, FineTuneConfig))
    except ValidationError:
        return FineTuneConfig()
