"""What the model is to answer with, and what an answer that came is worth."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

FormName = Literal["pairs", "verdicts"]

OutcomeName = Literal["answered", "refused", "truncated", "invalid", "failed", "unknown"]
"""What can become of a request that was sent.

`failed` was turned away and is not paid for; of an `unknown` one the answer was lost, and it may have
been paid for.
"""
SETTLED = ("answered", "refused", "truncated", "invalid")
"""Outcomes that are an answer: what gave one is never sent again."""
RETRIED = ("truncated", "invalid")
"""Useless answers, for which a second sample is asked for once."""


@dataclass(frozen=True)
class Draft:
    """A pair as the model wrote it."""

    question: str
    answer: str
    evidence: str


@dataclass(frozen=True)
class Verdict:
    """What the judge says of a pair: its number, what decided, and whether to keep it."""

    pair: int
    reason: str
    keep: bool


Item = Draft | Verdict


@dataclass(frozen=True)
class Form:
    """A form of answers: an object with one list, which has the form's name, of items of a kind.

    `fields` says of each field of an item its type in JSON and what it is; `tokens` is about what an
    item has.
    """

    name: FormName
    item: Callable[..., Item]
    fields: Mapping[str, tuple[Literal["string", "integer", "boolean"], str]]
    tokens: int

    @cached_property
    def schema(self) -> dict[str, object]:
        """The JSON schema. The API does not hold an answer to a count: that is checked here."""
        item = {
            "type": "object",
            "properties": {
                name: {"type": kind, "description": said}
                for name, (kind, said) in self.fields.items()
            },
            "required": list(self.fields),
            "additionalProperties": False,
        }
        return {
            "type": "object",
            "properties": {self.name: {"type": "array", "items": item}},
            "required": [self.name],
            "additionalProperties": False,
        }


PAIRS = Form(
    "pairs",
    Draft,
    {
        "question": ("string", "Stands on its own, without the source at hand."),
        "answer": ("string", "Complete, and from the source alone."),
        "evidence": ("string", "The words of the source that prove the answer, copied exactly."),
    },
    150,
)
VERDICTS = Form(
    "verdicts",
    Verdict,
    {
        "pair": ("integer", "The number of the pair."),
        "reason": ("string", "What decides, in at most twelve words."),
        "keep": ("boolean", "Whether the pair is to be kept."),
    },
    40,
)
FORMS = {form.name: form for form in (PAIRS, VERDICTS)}
_TYPES = {"string": str, "integer": int, "boolean": bool}


@dataclass(frozen=True)
class Answer:
    """What an answer is: its items, or why it is useless."""

    outcome: OutcomeName
    reason: str = ""
    items: Sequence[Item] = ()

    @property
    def drafts(self) -> list[Draft]:
        """The items of an answer in the form `PAIRS`."""
        return [item for item in self.items if isinstance(item, Draft)]

    @property
    def verdicts(self) -> list[Verdict]:
        """The items of an answer in the form `VERDICTS`."""
        return [item for item in self.items if isinstance(item, Verdict)]


def read_answer(form: Form, stop_reason: str | None, text: str, count: int) -> Answer:
    """Whether an answer is just `count` items of `form`. Never raises, whatever the answer is."""
    if stop_reason == "refusal":
        return Answer("refused", "the model refused")
    if stop_reason in ("max_tokens", "model_context_window_exceeded"):
        return Answer("truncated", f"it was cut off ({stop_reason})")
    if stop_reason not in ("end_turn", "stop_sequence"):
        return Answer("invalid", f"it stopped for {stop_reason!r}")
    try:
        items = _items(form, json.loads(text))
        numbers = [item.pair for item in items if isinstance(item, Verdict)]
    except (ValueError, RecursionError) as error:
        return Answer("invalid", f"it is not the JSON that was asked for ({_short(error)})")
    if len(items) != count:
        return Answer("invalid", f"{len(items)} {form.name} instead of {count}", items)
    if numbers and numbers != list(range(1, count + 1)):
        return Answer("invalid", f"verdicts on the pairs {numbers}, of {count}"[:200], items)
    return Answer("answered", "", items)


def _items(form: Form, value: object) -> list[Item]:
    """The items in a value. Raises ValueError if it does not have the form."""
    if not isinstance(value, dict) or set(value) != {form.name}:
        raise ValueError(f"it is not an object with just `{form.name}`")
    if not isinstance(value[form.name], list):
        raise ValueError(f"`{form.name}` is not a list")
    return [_item(form, item) for item in value[form.name]]


def _item(form: Form, item: object) -> Item:
    if not isinstance(item, dict) or set(item) != set(form.fields):
        raise ValueError(f"an item is not an object with just {', '.join(form.fields)}")
    found: dict[str, object] = {}
    for name, (kind, _) in form.fields.items():
        value = item[name]
        if type(value) is not _TYPES[kind]:  # True is an int to isinstance
            raise ValueError(f"{name} is not of type {kind}")
        found[name] = _text(name, value) if isinstance(value, str) else value
    return form.item(**found)


def _text(name: str, value: str) -> str:
    if not value.strip():
        raise ValueError(f"{name} is empty")
    value.encode()  # a lone surrogate is not text; UnicodeEncodeError is a ValueError
    return value.strip()


def _short(error: Exception) -> str:
    return str(error)[:120] or type(error).__name__
