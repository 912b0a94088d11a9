"""The form that answers must have, and the check whether an answer has it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

FormName = Literal["pairs", "verdicts", "judgements"]

OutcomeName = Literal["answered", "refused", "truncated", "invalid", "failed", "unknown"]
"""The outcomes of a request that was sent.

`failed`: an error status, not paid for. `unknown`: the answer was lost and may have been paid for.
"""
SETTLED = ("answered", "refused", "truncated", "invalid")
"""Outcomes that are an answer: a request with one of them is never sent again."""
RETRIED = ("truncated", "invalid")
"""Unusable answers, for which one second sample is requested."""


@dataclass(frozen=True)
class Draft:
    """A pair as the model wrote it."""

    question: str
    answer: str
    evidence: str


@dataclass(frozen=True)
class Verdict:
    """The judge's verdict on a pair: its number, the reason, and whether to keep it."""

    pair: int
    reason: str
    keep: bool


@dataclass(frozen=True)
class Judgement:
    """The judge's verdict on a model's answer to a question, and what decides."""

    verdict: str
    remark: str


Item = Draft | Verdict | Judgement


@dataclass(frozen=True)
class Form:
    """A form of answers: a JSON object with one list, named after the form, of items of one kind.

    `fields` maps each field of an item to its JSON type and its description; `tokens` is the typical
    length of an item; `choices` has the values of a field that takes no other.
    """

    name: FormName
    item: Callable[..., Item]
    fields: Mapping[str, tuple[Literal["string", "integer", "boolean"], str]]
    tokens: int
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def schema(self) -> dict[str, object]:
        """The JSON schema. The API cannot enforce a number of items: `read_answer` checks it."""
        item = {
            "type": "object",
            "properties": {
                name: {"type": kind, "description": said, **self._enum(name)}
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

    def _enum(self, name: str) -> dict[str, list[str]]:
        return {"enum": list(self.choices[name])} if name in self.choices else {}


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
JUDGED = ("right", "partly", "wrong")
"""The verdicts on an answer."""
JUDGEMENTS = Form(
    "judgements",
    Judgement,
    {
        "remark": ("string", "What decides, in at most twelve words."),
        "verdict": ("string", "How right the answer is."),
    },
    40,
    {"verdict": JUDGED},
)
FORMS = {form.name: form for form in (PAIRS, VERDICTS, JUDGEMENTS)}
_TYPES = {"string": str, "integer": int, "boolean": bool}


@dataclass(frozen=True)
class Answer:
    """An answer after reading: its items, or why it is unusable."""

    outcome: OutcomeName
    reason: str = ""
    items: Sequence[Item] = ()

    @property
    def drafts(self) -> list[Draft]:
        """The items, if the answer has the form `PAIRS`."""
        return [item for item in self.items if isinstance(item, Draft)]

    @property
    def verdicts(self) -> list[Verdict]:
        """The items, if the answer has the form `VERDICTS`."""
        return [item for item in self.items if isinstance(item, Verdict)]

    @property
    def judgements(self) -> list[Judgement]:
        """The items, if the answer has the form `JUDGEMENTS`."""
        return [item for item in self.items if isinstance(item, Judgement)]


def read_answer(form: Form, stop_reason: str | None, text: str, count: int) -> Answer:
    """Checks that an answer is exactly `count` items of `form`. Never raises, whatever the answer is.

    A wrong count is `invalid` even if the items are good; otherwise a model that answers half of each
    request would go unnoticed.
    """
    if stop_reason == "refusal":
        return Answer("refused", "the model refused")
    if stop_reason in ("max_tokens", "model_context_window_exceeded"):
        return Answer("truncated", f"it was cut off ({stop_reason})")
    if stop_reason not in ("end_turn", "stop_sequence"):
        return Answer("invalid", f"unexpected stop reason {stop_reason!r}")
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
    """The items in a value. Raises ValueError if the value does not have the form."""
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
        if name in form.choices and found[name] not in form.choices[name]:
            raise ValueError(f"{name} is none of {', '.join(form.choices[name])}")
    return form.item(**found)


def _text(name: str, value: str) -> str:
    if not value.strip():
        raise ValueError(f"{name} is empty")
    value.encode()  # a lone surrogate is not text; UnicodeEncodeError is a ValueError
    return value.strip()


def _short(error: Exception) -> str:
    return str(error)[:120] or type(error).__name__
