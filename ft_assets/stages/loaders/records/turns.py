"""The turns of a conversation in every dialect, in one form."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ft_assets.stages.loaders.interface import clean
from ft_assets.stages.loaders.records.content import Content, read_content
from ft_assets.stages.loaders.records.entries import BadRecordError, parsed_json
from ft_assets.stages.loaders.records.marks import FLAGS, check_turn, is_false, is_trained
from ft_assets.stages.loaders.records.spelling import (
    CONTENT_KEYS,
    ROLE_KEYS,
    Fields,
    role_named,
)
from ft_assets.stages.loaders.records.thoughts import take_reasoning

MAX_MESSAGES = 512
"""The most turns in a record: each trained turn may become a row with all turns before it."""


@dataclass
class Turn:
    """One turn: its role (system, user, assistant or tool), its text, and what it says of calls.

    `calls` is as it was found; `name` and `call_id` are those of a tool's result. `reasoning` is what an
    assistant thought before.
    """

    role: str
    content: str
    trained: bool = True
    calls: Any = None
    name: str | None = None
    call_id: str | None = None
    reasoning: str | None = None


@dataclass
class Conversation:
    """The turns of one record, and the keys of turns that were not used."""

    turns: list[Turn] = field(default_factory=list)
    unused: dict[str, None] = field(default_factory=dict)


def read_turns(value: Any, key: str) -> Conversation:
    """Reads a list of turns, or a string of JSON that holds one; `key` is where it was found."""
    found = Conversation()
    for number, turn in enumerate(_turns_of(value, key), start=1):
        if not isinstance(turn, dict):
            raise BadRecordError("its turns must be a list of objects with 'role' and 'content'")
        found.turns += _read_turn(turn, f"turn {number} ", key, found.unused)
    return found


def _turns_of(value: Any, key: str) -> list[Any]:
    if isinstance(value, str):
        try:
            value = parsed_json(value)
        except BadRecordError as error:
            raise BadRecordError(
                f"{key!r} is a string that is {error}: write a list of turns"
            ) from error
    value = _as_objects(value)
    if not isinstance(value, list):
        raise BadRecordError(f"its turns must be a list of objects, not {type(value).__name__}")
    if len(value) > MAX_MESSAGES:
        raise BadRecordError(too_many(len(value)))
    return value


def _as_objects(value: Any) -> Any:
    """Turns as objects that are lists by key, strings in turn, or pairs of strings."""
    if isinstance(value, dict):
        return _rows(value)
    if not isinstance(value, list) or not 1 < len(value) <= MAX_MESSAGES:
        return value
    if all(isinstance(item, str) for item in value):
        return [{"role": _IN_TURN[place % 2], "content": text} for place, text in enumerate(value)]
    if not all(isinstance(item, list) and len(item) == _PAIR for item in value):
        return value
    if all(isinstance(text, str) for item in value for text in item):
        if all(role_named(role) for role, _ in value):
            return [{"role": role, "content": text} for role, text in value]
        return [{"user": asked, "assistant": answered} for asked, answered in value]
    return value


_IN_TURN = ("user", "assistant")
_PAIR = 2


def _rows(columns: dict[str, Any]) -> Any:
    """The turns in an object that has a list for each key of theirs, as datasets write a sequence."""
    lists = {name: items for name, items in columns.items() if isinstance(items, list)}
    if len({len(items) for items in lists.values()}) != 1 or not lists.keys() & {*ROLE_KEYS}:
        return columns
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def too_many(turns: int) -> str:
    """What to do about a conversation of so many turns."""
    return f"it has {turns:,} turns, more than {MAX_MESSAGES}: split the conversation"


def _read_turn(value: dict[str, Any], of: str, key: str, unused: dict[str, None]) -> Iterator[Turn]:
    if plain := _plain(value):
        yield plain
        return
    turn = Fields(value)
    role_key = next((name for name in ROLE_KEYS if name in turn), None)
    if role_key is None:
        yield from _paired(turn, of)
    else:
        yield _with_role(turn, role_key, of, key, unused)
    unused.update((f"{key}.{name}", None) for name in turn.unused())


def _plain(value: dict[str, Any]) -> Turn | None:
    """The turn in an object that has a role and a text and nothing else; most have."""
    if len(value) != _ROLE_AND_TEXT:
        return None
    role, content = value.get("role", value.get("from")), value.get("content", value.get("value"))
    if role in ("system", "user", "assistant") and isinstance(content, str):
        return Turn(role, clean(content))
    return None


_ROLE_AND_TEXT = 2


def _paired(turn: Fields, of: str) -> Iterator[Turn]:
    """The turns in an object such as `{"human": …, "assistant": …}`, whose keys are roles."""
    roles = {name: role_named(name) for name in turn}
    known = [name for name, role in roles.items() if role in ("system", "user", "assistant")]
    if not known:
        keys = ", ".join(turn.names()[:8])[:200] or "none"
        raise BadRecordError(f"{of}has no role (its keys are {keys}): write 'role' and 'content'")
    for name in sorted(
        known, key=lambda name: ("system", "user", "assistant").index(str(roles[name]))
    ):
        text = read_content(turn.take(name), of).text
        if text or roles[name] != "system":
            yield Turn(str(roles[name]), text)


def _with_role(turn: Fields, role_key: str, of: str, key: str, unused: dict[str, None]) -> Turn:
    named = turn.take(role_key)
    role = role_named(named)
    if role is None:
        known = "known are system, user, assistant and tool, and their other usual names"
        raise BadRecordError(f"unknown role {_short(named)}: {known}")
    content_key = next((name for name in CONTENT_KEYS if name in turn), "content")
    content = _content_of(turn.take(content_key), role, of)
    unused.update((f"{key}.content.{kind}", None) for kind in content.left_out)
    check_turn(turn, of)
    if role == "tool":
        name, call_id = (_text(turn.take(name)) for name in ("name", "tool_call_id"))
        return Turn(role, content.text, name=name, call_id=call_id)
    trained = _trained(turn, role, of)
    if role not in ("call", "assistant"):
        unused.update((f"{key}.content.reasoning", None) for _ in content.reasoning[:1])
        return Turn(role, content.text)
    reasoning = take_reasoning(turn, content.text, of, beside=content.reasoning)
    if role == "call":
        calls = content.calls or content.text
        return Turn("assistant", "", trained, calls, reasoning=reasoning)
    return Turn(role, content.text, trained, _calls(turn, content, of), reasoning=reasoning)


def _trained(turn: Fields, role: str, of: str) -> bool:
    """Whether the turn carries loss; only an assistant's can, whatever the flags of others say."""
    if role in ("system", "user"):
        for name in FLAGS:
            turn.take(name)
        return False
    detail = turn.take("train_detail")
    if isinstance(detail, list) and any(
        isinstance(piece, dict) and is_false(piece.get("train")) for piece in detail
    ):
        raise BadRecordError(
            f"{of}'train_detail' leaves out a part: only whole turns can be left out"
        )
    return is_trained(turn, of)


def _calls(turn: Fields, content: Content, of: str) -> Any:
    """The calls of an assistant's turn, by any of the keys for them."""
    found = [turn.take(name) for name in ("tool_calls", "function_call")]
    found = [calls for calls in found if calls and calls not in ("[]", "{}", "null")]
    found += [content.calls] if content.calls else []
    if len(found) > 1:
        raise BadRecordError(f"{of}has calls in two places: keep 'tool_calls'")
    return found[0] if found else None


def _content_of(value: Any, role: str, of: str) -> Content:
    """The content; the result of a tool and a call may be any JSON."""
    if role in ("tool", "call") and isinstance(value, dict | list | int | float):
        try:
            return read_content(value, of)
        except BadRecordError:
            return Content(json.dumps(value, ensure_ascii=False))
    return read_content(value, of)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _short(value: Any) -> str:
    return repr(value)[:60]
