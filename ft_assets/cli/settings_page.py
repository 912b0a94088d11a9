"""`docs/settings.md`, generated: `python -m ft_assets.cli.settings_page > docs/settings.md`."""

import inspect
from collections.abc import Iterator
from typing import get_args

from pydantic.fields import FieldInfo

from ft_assets.cli.settings_file import allowed, as_yaml
from ft_assets.config import FineTuneConfig, Section, all_settings, declaration, section_in
from ft_assets.engine.asset_settings import READS, is_read, keys_read

_HEAD = """\
# Settings

`data/finetune.yaml` holds the settings of all corpora; `data/<corpus>/finetune.yaml` holds only what differs for that
corpus. A setting of the *owner* decides about money, addresses or machines and must be in the first file; a setting of
the *corpus* may be in either. `null` means not set: the library uses its own default. A null setting is not part of a
fingerprint, so a new setting that is null makes nothing stale.

A setting of the *owner* in a corpus's own file is an error, reported with its line. A corpus may lower a *cap*, but not
raise it above the value in `data/finetune.yaml`, or the default. Two settings of the corpus have values that only the
owner may use: `qa.model` with a provider other than the owner's, and a local `model.base` outside the data folder,
unless it is below a folder in `model.local_bases`.

The column *artifact* says what a change does to the assets that read the setting:

- **shapes**: it changes rows or weights, so the asset is rebuilt from the beginning.
- **chooses**: it only chooses among rows, or sets a threshold, so the asset is rebuilt from existing rows.
- **means**: it says how the work is done and is not part of a fingerprint, so nothing becomes stale. (The content of a
  file that it names does count.)

This page is generated from `ft_assets/config.py` by `python -m ft_assets.cli.settings_page`.
"""
_COLUMNS = ["key", "default", "allowed", "whose", "artifact", "read by"]


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for name, field in FineTuneConfig.model_fields.items():
        section = section_in(field)
        assert section  # noqa: S101 (all that is at the top is a section)
        parts += [f"## `{name}`\n", *_descriptions(name, section), _table(name, section)]
    return "\n".join(parts)


def _descriptions(path: str, section: type[Section]) -> Iterator[str]:
    """The docstrings of a section and of the sections inside it, a paragraph each."""
    said = " ".join(inspect.cleandoc(section.__doc__ or "").split())
    yield f"{said}\n" if "." not in path else f"`{path}`: {said}\n"
    for name, field in section.model_fields.items():
        if below := section_in(field):
            yield from _descriptions(f"{path}.{name}", below)


def _table(path: str, section: type[Section]) -> str:
    rows = [_COLUMNS, ["---"] * len(_COLUMNS)]
    rows += [_row(f"{path}.{key}", field) for key, field in all_settings(section)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(key: str, field: FieldInfo) -> list[str]:
    said = declaration(field)
    default = "required" if field.is_required() else f"`{as_yaml(field.default)}`"
    return [
        f"`{key}`",
        default,
        _allowed(field),
        f"{said.whose}, a cap" if said.cap else said.whose,
        said.role,
        _readers(key),
    ]


def _allowed(field: FieldInfo) -> str:
    """The allowed values of a key; unlike in a settings file, also if its type says it all."""
    words = allowed(field) or _kind(field)
    if str(field.annotation).startswith("list["):
        words = f"a list of {words}"
    if type(None) in get_args(field.annotation):
        words = f"{words} | null"
    return words.replace("|", r"\|")


def _kind(field: FieldInfo) -> str:
    if section_in(field):
        return "the settings below it"
    is_switch = bool in (field.annotation, *get_args(field.annotation))
    return "true | false" if is_switch else "text"


def _readers(key: str) -> str:
    """The assets that read a setting, always or only under some settings."""
    by_tokens = FineTuneConfig.model_validate({"langchain": {"splitter": "token"}})
    found = [f"`{asset}`" for asset, keys in READS.items() if is_read(key, keys)]
    found += [
        f"`{asset}` (if `langchain.splitter` is `token`)"
        for asset, keys in READS.items()
        if not is_read(key, keys) and is_read(key, keys_read(asset, by_tokens))
    ]
    return ", ".join(found) or "no asset"


if __name__ == "__main__":
    print(page(), end="")
