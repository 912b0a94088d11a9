"""The content of a turn: a string, or a list of parts that are all text."""

import json
from dataclasses import dataclass, field
from typing import Any

from ft_assets.stages.loaders.interface import clean
from ft_assets.stages.loaders.records.entries import BadRecordError
from ft_assets.stages.loaders.records.marks import is_false
from ft_assets.stages.loaders.records.thoughts import reasoning_text

_TEXT = {"text", "input_text", "output_text", "refusal"}
_REASONING = {"reasoning", "thinking"}
_HIDDEN = "redacted_thinking"
_CALLED = {"functionCall", "functionResponse", "function_call", "toolUse", "toolResult"}
_TOOL_USE = {"tool_use", "tool_result", "server_tool_use"}


@dataclass
class Content:
    """The text of a turn, the thoughts and calls among its parts, and the kinds of parts left out."""

    text: str = ""
    reasoning: str = ""
    calls: list[Any] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def read_content(value: Any, of: str) -> Content:
    """Reads a turn's content; `of` begins the reasons: it names the turn."""
    if value is None:
        return Content()
    if isinstance(value, str):
        return Content(clean(value))
    if isinstance(value, dict) and ("type" in value or "parts" in value):
        value = value.get("parts") or [value]
    if not isinstance(value, list):
        raise BadRecordError(f"{of}content must be a string, not {type(value).__name__}")
    content, texts = Content(), []
    for part in value:
        texts.append(_part(part, content, of))
    content.text = clean("".join(texts))
    return content


def _part(part: Any, content: Content, of: str) -> str:
    """The text of a part; its call or its kind is added to `content`."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise BadRecordError(f"{of}content has a part that is not text: {type(part).__name__}")
    kind = part.get("type") or ("text" if "text" in part else "")
    if any(is_false(part.get(flag)) for flag in ("train", "weight", "loss_weight")):
        raise BadRecordError(f"{of}content has a part that is not to be learned: split the turn")
    if kind in _TEXT:
        return _text(part, of)
    if kind == "tool_call":
        content.calls.append(_text(part, of))
        return ""
    if kind in _REASONING and (thought := reasoning_text(part)):
        content.reasoning += thought
        return ""
    if kind in _REASONING or kind == _HIDDEN:
        content.left_out.append(kind)
        return ""
    if kind in _TOOL_USE:
        raise BadRecordError(f"{of}content has a {kind} part: write OpenAI's 'tool_calls' instead")
    what = f"of type {str(kind)[:40]!r}" if kind else f"with {', '.join(part)[:60] or 'nothing'!r}"
    more = "; write calls as OpenAI's 'tool_calls'" if _CALLED & part.keys() else ""
    raise BadRecordError(f"{of}content has a part {what}: only text is read{more}")


def _text(part: dict[str, Any], of: str) -> str:
    found = next(
        (part[key] for key in ("text", "value", "content", "refusal") if part.get(key)), ""
    )
    if isinstance(found, dict | list) and part.get("type") == "tool_call":
        return json.dumps(found, ensure_ascii=False)
    if not isinstance(found, str):
        raise BadRecordError(f"{of}content has a text part that is not a string")
    return found
