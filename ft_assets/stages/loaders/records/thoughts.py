"""What an assistant thought before its answer, under the keys that datasets have for it."""

import re
from typing import Any

from ft_assets.stages.loaders.interface import clean
from ft_assets.stages.loaders.records.entries import BadRecordError
from ft_assets.stages.loaders.records.spelling import Fields
from ft_assets.stages.reasoning import thought_in

REASONINGS = (
    *("reasoning_content", "reasoning", "thinking", "thought", "thoughts", "think"),
    *("chain_of_thought", "cot", "complex_cot", "reasoning_trace"),
)
"""Keys of the thoughts of an answer, beside it."""
_TEXTS = ("thinking", "text", "value", "content", "reasoning")
_FLAG = re.compile(r"[A-Za-z0-9_.-]{1,20}")
"""A name or a switch such as `on`, not a thought; only `reasoning_content` is surely one."""


def take_reasoning(fields: Fields, answer: str, of: str, *, beside: str = "") -> str | None:
    """The thoughts under a key of a turn or a pair; None without any.

    `beside` are those found elsewhere. Raises BadRecordError for thoughts that differ, because one would
    be lost.
    """
    found = [beside] if beside.strip() else []
    for key in fields.among(REASONINGS):
        text = reasoning_text(fields.peek(key))
        if text is None or (key != "reasoning_content" and _FLAG.fullmatch(text.strip())):
            continue
        fields.take(key)
        found += [text] if text.strip() else []
    thought = thought_in(answer) if found else None
    if thought and thought.reasoning:
        found.append(thought.reasoning)
    if len({text.strip() for text in found}) > 1:
        raise BadRecordError(f"{of}has reasoning in two places that differ: keep one")
    return found[0] if found else None


def reasoning_text(value: Any) -> str | None:
    """The text of thoughts: a string, or parts that are all text; None for anything else."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return next((reasoning_text(value[key]) for key in _TEXTS if value.get(key)), None)
    if not isinstance(value, list):
        return None
    texts = [reasoning_text(item) for item in value]
    return None if None in texts else "".join(filter(None, texts))
