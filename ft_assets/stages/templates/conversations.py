"""Conversations as a template is given them, and what of them must stand in what it renders."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ft_assets.records import Message
from ft_assets.stages.templates.reasoning_place import Place

TrainOn = Literal["all", "last"]
"""The answers of a conversation that are trained: every one, or the last."""


class CannotRenderError(Exception):
    """A conversation that this template has no place for."""


@dataclass(frozen=True)
class Conversation:
    """The turns of a record or a pair.

    `context` is an Alpaca record's input. `tools` is JSON text: see `records.InstructionRecord`.
    """

    messages: Sequence[Message]
    context: str | None = None
    tools: str | None = None
    train_on: TrainOn = "all"

    def trained(self) -> list[int]:
        """The places of the turns with a loss.

        Raises CannotRenderError if there is none.
        """
        answers = [n for n, each in enumerate(self.messages) if each["role"] == "assistant"]
        wanted = answers[-1:] if self.train_on == "last" else answers
        trained = [n for n in wanted if self.messages[n].get("trained") is not False]
        if not trained:
            last = "last " if self.train_on == "last" else ""
            raise CannotRenderError(f"its {last}answer is marked as not to be trained")
        return trained


@dataclass(frozen=True)
class Turns:
    """A conversation in the format of chat templates, its texts escaped; `escaped` if any had to be.

    `messages` are without reasoning; `reasoned` has the `place` and the `text` of each.
    """

    messages: list[dict[str, Any]]
    tools: list[Any] | None
    escaped: bool
    reasoned: list[dict[str, Any]] = field(default_factory=list)


def turns_of(
    conversation: Conversation, escape: Callable[[str], str], place: Place, *, input_field: bool
) -> Turns:
    """The conversation with each text put through `escape`; reasoning goes to its `place`.

    The context goes to a field `input` of the last question if the template has one, else under it.
    """
    parted = [place.parted(message, escape) for message in conversation.messages]
    given = [
        _given(message, content)
        for message, (content, _) in zip(conversation.messages, parted, strict=True)
    ]
    tools = json.loads(conversation.tools) if conversation.tools else None
    messages = _each_text(given, escape)
    escaped_tools = _each_text(tools, escape)
    thoughts = {number: text for number, (_, text) in enumerate(parted) if text and text.strip()}
    reasoned = [{"place": number, "text": escape(text)} for number, text in thoughts.items()]
    escaped = messages != given or escaped_tools != tools
    escaped = escaped or [each["text"] for each in reasoned] != [*thoughts.values()]
    if conversation.context:
        below = escape(conversation.context)
        escaped = escaped or below != conversation.context
        last = next(turn for turn in reversed(messages) if turn["role"] == "user")
        if input_field:
            last["input"] = below
        else:
            last["content"] = f"{last['content']}\n\n{below}"
    return Turns(messages, escaped_tools, escaped, reasoned)


def _given(message: Message, content: str) -> dict[str, Any]:
    """A message with those of its keys that say something."""
    given: dict[str, Any] = {"role": message["role"], "content": content}
    if calls := message.get("tool_calls"):
        given["tool_calls"] = json.loads(calls)
    for key in ("name", "tool_call_id"):
        if value := message.get(key):
            given[key] = value
    return given


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    """A value with every text in it changed, keys of objects too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_each_text(item, change) for item in value]
    if isinstance(value, dict):
        return {change(key): _each_text(item, change) for key, item in value.items()}
    return value


NO_TOOLS = (
    "the template has no place for tools: set model.base to a model whose chat template takes them"
)


def require_tools(text: str, tools: list[Any] | None) -> None:
    """Raises CannotRenderError if a function that may be called is not named in `text`."""
    for tool in tools or []:
        if str(tool["function"]["name"]) not in text:
            raise CannotRenderError(NO_TOOLS)


def require(text: str, turns: Sequence[dict[str, Any]], passed: Collection[int] = ()) -> None:
    """Raises CannotRenderError where a turn's words are not in the rendered `text` as they are.

    Turns whose place is in `passed` are not looked for.
    """
    for place, turn in enumerate(turns):
        if place in passed:
            continue
        for name in ("content", "input"):
            content = str(turn.get(name, "")).strip()
            # A result that is data may be written as JSON text.
            data = json.dumps(content, ensure_ascii=False)[1:-1] if turn["role"] == "tool" else ""
            if content not in text and not (data and data in text):
                what = "input" if name == "input" else _SAID[turn["role"]]
                raise CannotRenderError(f"the template has no place for the {what}, or changes it")
        for word in _called(turn):
            if word not in text and json.dumps(word, ensure_ascii=False)[1:-1] not in text:
                raise CannotRenderError("the template has no place for tool calls, or changes them")


_SAID = {
    "system": "system message",
    "user": "user message",
    "assistant": "assistant message",
    "tool": "result of a tool",
}


def _called(turn: dict[str, Any]) -> Iterator[str]:
    """The functions that a turn calls, and the texts that it gives them."""
    for call in turn.get("tool_calls", ()):
        yield call["function"]["name"]
        waiting = [call["function"]["arguments"]]
        while waiting:
            value = waiting.pop()
            if isinstance(value, str):
                yield value
            elif isinstance(value, dict | list):
                waiting += value.values() if isinstance(value, dict) else value
