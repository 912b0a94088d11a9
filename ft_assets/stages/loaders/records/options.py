"""The options of a multiple-choice question, put below it as lines."""

import re
from typing import Any

from ft_assets.stages.loaders.interface import clean
from ft_assets.stages.loaders.records.entries import BadRecordError, parsed_json

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTERED = re.compile(r"\s*(?:\(?[A-Za-z0-9]{1,2}[.):]|[A-Za-z0-9]{1,2} ?[-–])\s")
_HOW = 'write a list of strings, or {"A": "…", "B": "…"}'


def option_lines(value: Any, name: str) -> str:
    """The options as lines `A. …`; lines that have letters of their own keep them."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            value = parsed_json(value)
        except BadRecordError as error:
            raise BadRecordError(f"{name!r} is a string that is {error}: {_HOW}") from error
    if isinstance(value, str):
        return clean(value).strip()
    lines = [clean(line).strip() for line in _lines(value, name)]
    if all(_LETTERED.match(line) for line in lines):
        return "\n".join(lines)
    if isinstance(value, list) and len(lines) <= len(_LETTERS):
        return "\n".join(f"{letter}. {line}" for letter, line in zip(_LETTERS, lines, strict=False))
    raise BadRecordError(f"{name!r} is in no form that is read: {_HOW}")


def _lines(value: Any, name: str) -> list[str]:
    """The options one by one, with the letters that the record gives them."""
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        letters, texts = value.get("label"), value["text"]
        if isinstance(letters, list) and len(letters) == len(texts):
            value = dict(zip(map(str, letters), texts, strict=True))
        else:
            value = dict(zip(_LETTERS, texts, strict=False))
    if isinstance(value, dict) and value:
        value = [{"label": key, "text": text} for key, text in value.items()]
    if not isinstance(value, list) or not value:
        raise BadRecordError(f"{name!r} is in no form that is read: {_HOW}")
    return [_line(item, name) for item in value]


def _line(item: Any, name: str) -> str:
    letter = ""
    if isinstance(item, dict):
        letter = next(
            (str(item[key]) for key in ("label", "key", "id", "letter") if item.get(key)), ""
        )
        item = next((item[key] for key in ("text", "value", "content") if key in item), None)
    if isinstance(item, int | float) and not isinstance(item, bool):
        item = str(item)
    if not isinstance(item, str) or not item.strip():
        raise BadRecordError(f"{name!r} is in no form that is read: {_HOW}")
    return f"{letter}. {item}" if letter else item
