"""`docs/commands.md`, generated: `python -m ft_assets.cli.commands_page > docs/commands.md`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer.main

from ft_assets.cli import EXIT_CODES, app

_HEAD = """\
# Commands

`ft-assets VERB --help` shows the same as this page. With `make setup` the program is in `.venv/bin`.

Every error is one message that says what is wrong, where, and what to do. `ft-assets --debug VERB` adds
the traceback. Ctrl-C stops a run (exit code 130): nothing half-built is published. A training saves the
step in hand first, and the same command resumes from there; a second Ctrl-C stops at once.
Other assets are built from their beginning. Verbs that report something accept `--json`.

`--force` rebuilds the last asset even if it is fresh, and ignores failed checks of its inputs. The
manifest and the model card record that it was used.

This page is generated from the command line by `python -m ft_assets.cli.commands_page`.
"""
_PLACES = """\
## Folders and environment variables

| variable | default | holds |
| --- | --- | --- |
| `FT_ASSETS_DATA` | `./data` | the documents and settings; a folder outside the checkout keeps private documents out of git |
| `FT_ASSETS_STORAGE` | `./storage` | the artifacts with their manifests |
| `DAGSTER_HOME` | `./.dagster` | Dagster's instance; created on first use, with telemetry off |
| `XDG_CACHE_HOME` | `~/.cache` | `ft-assets/` in it caches fetched and converted models and tools, checked before each use |
| `FT_ASSETS_LLAMA_CPP` | not set | a llama.cpp checkout whose converter replaces the pinned one |
| `HF_TOKEN` | not set | the key for private or gated models on the Hugging Face hub |
| `ANTHROPIC_API_KEY` | not set | the key for question-answer pairs from Claude ([qa.md](qa.md)) |

`python -m ft_assets.stages.models --repair` removes cached models and tools that were changed, and fetches
them again.
"""


def page() -> str:
    """The whole page."""
    verbs = list(_verbs(typer.main.get_command(app)))
    parts = [_HEAD, _exit_codes(), _summary(verbs)]
    parts += [_section(name, command) for name, command in verbs]
    return "\n".join([*parts, _PLACES])


def _verbs(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every verb with its command; those of a family under the name of the family and their own."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _verbs(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def _exit_codes() -> str:
    rows = [f"| {code} | {means} |\n" for code, means in EXIT_CODES.items()]
    return "".join(["| exit code | means |\n| --- | --- |\n", *rows])


def _summary(verbs: list[tuple[str, Any]]) -> str:
    rows = [
        f"| [`{name}`](#{name.replace(' ', '-')}) | {_paragraphs(command)[0].removesuffix('.')} |\n"
        for name, command in verbs
    ]
    return "".join(["| verb | does |\n| --- | --- |\n", *rows])


def _paragraphs(command: Any) -> list[str]:
    """What a verb's help says."""
    return [" ".join(part.split()) for part in str(command.help).split("\n\n")]


def _section(name: str, command: Any) -> str:
    has_options = any(each.param_type_name == "option" for each in command.params)
    options = ["[OPTIONS]"] if has_options else []
    usage = " ".join(["ft-assets", name, *options, *_arguments(command)])
    parts = [f"## {name}\n", f"```console\n$ {usage}\n```\n"]
    parts += [f"{paragraph}\n" for paragraph in _paragraphs(command)]
    return "\n".join([*parts, _table(command)])


def _arguments(command: Any) -> Iterator[str]:
    """The arguments as a usage line has them."""
    for each in command.params:
        if each.param_type_name == "argument":
            word = _label(each) + ("..." if each.nargs == -1 else "")
            yield word if each.required else f"[{word}]"


def _table(command: Any) -> str:
    rows = [["argument or option", "value", "default", "meaning"], ["---"] * 4]
    rows += [
        [f"`{_label(each)}`", _value(each), _default(each), each.help or ""]
        for each in command.params
    ]
    if len(rows) == 2:
        return "It takes no arguments or options.\n"
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _label(parameter: Any) -> str:
    """The names of an option, or the word for an argument."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    return ", ".join(parameter.opts)


def _value(parameter: Any) -> str:
    """What may be given."""
    if getattr(parameter, "is_flag", False):
        return ""
    annotation = parameter.type_descriptor.annotation
    named = parameter.param_type_name == "option" or get_origin(annotation) is Literal
    if named and parameter.metavar and annotation is not int:
        return "" if parameter.metavar == _label(parameter) else f"`{parameter.metavar}`"
    kind = _kind(annotation)
    return f"{kind}, at least {parameter.min}" if parameter.min is not None else kind


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return r" \| ".join(f"`{choice}`" for choice in get_args(annotation))
    if annotation in (int, Path):
        return "a number" if annotation is int else "a file"
    return "text"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if getattr(parameter, "is_flag", False) or parameter.default is None:
        return ""
    return f"`{parameter.default}`"


if __name__ == "__main__":
    print(page(), end="")
