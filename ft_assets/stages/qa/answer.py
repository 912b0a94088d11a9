"""What the model is to answer with, and what an answer that came is worth."""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

OutcomeName = Literal["answered", "refused", "truncated", "invalid", "failed", "unknown"]
"""What can become of a request that was sent.

`failed` was turned away and is not paid for; of an `unknown` one the answer was lost, and it may have
been paid for.
"""
SETTLED = ("answered", "refused", "truncated", "invalid")
"""Outcomes that are an answer: what gave one is never sent again."""
RETRIED = ("truncated", "invalid")
"""Answers of no use, of which a second sample is asked for once."""

_FIELDS = {
    "question": "Stands on its own, without the source at hand.",
    "answer": "Complete, and from the source alone.",
    "evidence": "The words of the source that prove the answer, copied exactly.",
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "pairs": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    name: {"type": "string", "description": said} for name, said in _FIELDS.items()
                },
                "required": list(_FIELDS),
                "additionalProperties": False,
            },
        }
    },
    "required": ["pairs"],
    "additionalProperties": False,
}
"""The form of an answer. The API does not hold it to a count: that is checked here."""


@dataclass(frozen=True)
class Draft:
    """A pair as the model wrote it."""

    question: str
    answer: str
    evidence: str


@dataclass(frozen=True)
class Judged:
    """What an answer is: its pairs, or why it is of no use."""

    outcome: OutcomeName
    reason: str = ""
    drafts: list[Draft] = field(default_factory=list)


def judge(stop_reason: str | None, text: str, pairs: int) -> Judged:
    """Whether an answer is just `pairs` pairs. Whatever was answered, this says so and never raises."""
    if stop_reason == "refusal":
        return Judged("refused", "the model refused")
    if stop_reason in ("max_tokens", "model_context_window_exceeded"):
        return Judged("truncated", f"it was cut off ({stop_reason})")
    if stop_reason not in ("end_turn", "stop_sequence"):
        return Judged("invalid", f"it stopped for {stop_reason!r}")
    try:
        drafts = _drafts(json.loads(text))
    except (ValueError, RecursionError) as error:
        return Judged("invalid", f"it is not the JSON that was asked for ({_short(error)})")
    if len(drafts) != pairs:
        return Judged("invalid", f"{len(drafts)} pairs where {pairs} were asked for", drafts)
    return Judged("answered", "", drafts)


def _drafts(value: Any) -> list[Draft]:
    """The pairs in a value. Raises ValueError where it has not the form of `SCHEMA`."""
    if not isinstance(value, dict) or set(value) != {"pairs"}:
        raise ValueError("it is no object with just `pairs`")
    if not isinstance(value["pairs"], list):
        raise ValueError("`pairs` is no list")
    return [_draft(item) for item in value["pairs"]]


def _draft(item: Any) -> Draft:
    if not isinstance(item, dict) or set(item) != set(_FIELDS):
        raise ValueError(f"a pair is no object with just {', '.join(_FIELDS)}")
    for name, text in item.items():
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name} is no text")
        text.encode()  # a lone surrogate is none; UnicodeEncodeError is a ValueError
    return Draft(**{name: text.strip() for name, text in item.items()})


def _short(error: Exception) -> str:
    return str(error)[:120] or type(error).__name__
