"""Calls of functions and their results: each call has its definition, each result its call."""

import hashlib
import re
from dataclasses import replace
from typing import Any

from ft_assets.records import Message
from ft_assets.stages.loaders.records.entries import BadRecordError, parsed_json
from ft_assets.stages.loaders.records.tools import json_text
from ft_assets.stages.loaders.records.turns import Turn

_ID = re.compile(r"[A-Za-z0-9]{9}")
"""The form of ids that every chat template takes; Mistral's take no other."""


def with_calls(turns: list[Turn], tools: list[dict[str, Any]]) -> list[Message]:
    """The turns as messages, whose calls are in one form and whose results name their calls."""
    known = {tool["function"]["name"] for tool in tools}
    messages: list[Message] = []
    open_calls: list[_Call] = []
    for place, turn in enumerate(turns):
        message: Message = {"role": turn.role, "content": turn.content}  # type: ignore[typeddict-item]
        if turn.role == "assistant":
            open_calls = _calls(turn.calls, place, known)
            if open_calls:
                message["tool_calls"] = json_text([call.content() for call in open_calls])
            if turn.reasoning:
                message["reasoning"] = turn.reasoning
            if not turn.trained:
                message["trained"] = False
        elif turn.role == "tool":
            call = _answered(turn, open_calls)
            message["name"], message["tool_call_id"] = call.name, call.id
        messages.append(message)
    return messages


def are_calls(value: Any) -> bool:
    """Whether a value, or the JSON in a string, is a call or a list of calls."""
    if isinstance(value, str):
        if value.lstrip()[:1] not in ("[", "{"):
            return False
        try:
            value = parsed_json(value)
        except BadRecordError:
            return False
    items = value if isinstance(value, list) else [value]
    return bool(items) and all(
        isinstance(item, dict)
        and ("function" in item or ("name" in item and {"arguments", "parameters"} & item.keys()))
        for item in items
    )


_WRITTEN = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)
_CALLS_AT_END = re.compile(
    r"(?:<tool_call>\s*\{.*?\}\s*</tool_call>\s*)+\Z|<functioncall>\s*\{.*\Z", re.DOTALL
)
_RESULT = re.compile(r"\s*<tool_response>\s*(.*?)\s*</tool_response>\s*", re.DOTALL)


def read_written(turns: list[Turn]) -> list[Turn]:
    """The turns of a record with tools; calls and results written as `<tool_call>` are read as such.

    Raises BadRecordError for a call in a form that is not read.
    """
    read: list[Turn] = []
    for turn in turns:
        if turn.role == "assistant" and not turn.calls and "<" in turn.content:
            _read_written(turn)
        if turn.role == "tool" and "<tool_response>" in turn.content:
            read += _results(turn)
        else:
            read.append(turn)
    return read


def _read_written(turn: Turn) -> None:
    starts = turn.content.find("<tool_call>"), turn.content.find("<functioncall>")
    start = min((start for start in starts if start >= 0), default=-1)
    found = _CALLS_AT_END.match(turn.content, start) if start >= 0 else None
    if not found:
        return
    if turn.content.startswith("<functioncall>", start):
        raise BadRecordError("a function call is written as text: write it under 'tool_calls'")
    turn.calls = _WRITTEN.findall(turn.content, start)
    turn.content = turn.content[:start].rstrip()


def _results(turn: Turn) -> list[Turn]:
    """A turn for each result in a tool's turn; the turn itself if it holds anything else."""
    found = _RESULT.findall(turn.content)
    if not found or _RESULT.sub("", turn.content):
        return [turn]
    return [replace(turn, content=content) for content in found]


class _Call:
    """One call; `given` is the id that the file gives it."""

    def __init__(self, name: str, arguments: dict[str, Any], given: str | None, place: str) -> None:
        self.name, self.arguments, self.given = name, arguments, given
        self.id = given if given and _ID.fullmatch(given) else _derived(given or place)
        self.is_answered = False

    def content(self) -> dict[str, Any]:
        """The call in the format of chat templates."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}


def _derived(of: str) -> str:
    return hashlib.sha256(of.encode("utf-8", "surrogatepass")).hexdigest()[:9]


def _calls(found: Any, place: int, known: set[str]) -> list[_Call]:
    """The calls in what a turn has of them; raises BadRecordError for one without its definition."""
    items = [_parsed(item) for item in found] if isinstance(found, list) else _parsed(found)
    if not items:
        return []
    if isinstance(items, dict):
        items = [items]
    items = [each for item in items for each in (item if isinstance(item, list) else [item])]
    calls = [_call(item, f"{place}.{number}") for number, item in enumerate(items)]
    ids = [call.id for call in calls]
    if len(set(ids)) < len(ids):
        raise BadRecordError("two calls of one turn have the same id")
    for call in calls:
        if call.name not in known:
            what = f"a tool call without its definition: {call.name[:60]!r} is not in 'tools'"
            raise BadRecordError(what)
    return calls


def _parsed(value: Any) -> Any:
    """A value, or what the JSON in a string holds."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise BadRecordError("a function call is empty")
    try:
        return parsed_json(value)
    except BadRecordError as error:
        reason = f'a function call is {error}: write {{"name": …, "arguments": {{…}}}}'
        raise BadRecordError(reason) from error


def _call(item: Any, place: str) -> _Call:
    function = item.get("function", item) if isinstance(item, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadRecordError('a function call has no name: write {"name": …, "arguments": {…}}')
    name = function["name"].strip()
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str) and arguments.strip():
        try:
            arguments = parsed_json(arguments)
        except BadRecordError as error:
            reason = f"the arguments of the call of {name[:60]!r} are {error}"
            raise BadRecordError(reason) from error
    arguments = {} if arguments is None or arguments == "" else arguments
    if not isinstance(arguments, dict):
        raise BadRecordError(f"the arguments of the call of {name[:60]!r} are not an object")
    given = item.get("id")
    return _Call(name, arguments, given if isinstance(given, str) and given else None, place)


def _answered(turn: Turn, calls: list[_Call]) -> _Call:
    """The call that a result is of: by its id, by its function's name, or the next one."""
    waiting = [call for call in calls if not call.is_answered]
    if turn.call_id:
        found = [call for call in waiting if call.given == turn.call_id]
        if not found:
            raise BadRecordError(
                f"a tool result of {turn.call_id[:60]!r}, for which there is no call"
            )
    else:
        found = [call for call in waiting if call.name == turn.name] or waiting
        if not found:
            raise BadRecordError("a tool result without a call before it")
    found[0].is_answered = True
    return found[0]
