"""As much of Go's text/template as Ollama's templates need here, rendered as Ollama does it.

Actions: `if`, `else if`, `else`, `end`, `range $i, $m := .Messages`, assignments and values. Functions:
eq, and, or, not, len, slice. Ollama executes a template that names `.Messages` with these and `.System`;
another one turn by turn with `.System`, `.Prompt` and `.Response`, up to the last `.Response`.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ft_assets.records import Message

_ACTION = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|[()]|[^\s()]+')

Node = tuple[Any, ...]


def run_ollama(template: str, messages: Sequence[Message]) -> str:
    """The prompt that Ollama makes of a conversation."""
    system = "\n\n".join(each["content"] for each in messages if each["role"] == "system")
    turns = [{"Role": each["role"], "Content": each["content"]} for each in messages]
    if ".Messages" in template:
        data = {"Messages": turns, "System": system}
    else:
        data = {"System": system, "Prompt": turns[-1]["Content"], "Response": ""}
    return _render(_parse(iter(_tokens(template))), data, {"$": data})


def _tokens(template: str) -> Iterator[tuple[str, str]]:
    end = 0
    for found in _ACTION.finditer(template):
        yield "text", template[end : found.start()]
        yield "action", found[1].strip()
        end = found.end()
    yield "text", template[end:]


def _parse(tokens: Iterator[tuple[str, str]]) -> list[Node]:
    nodes, closed = _block(tokens)
    assert closed is None, f"{closed!r} closes nothing"
    return nodes


def _block(tokens: Iterator[tuple[str, str]]) -> tuple[list[Node], str | None]:
    """The nodes up to the action that closes them, and that action."""
    nodes: list[Node] = []
    for kind, text in tokens:
        word = text.partition(" ")[0]
        if kind == "text":
            nodes.append(("text", text))
        elif word in ("end", "else"):
            return nodes, text
        elif word == "range":
            body, closed = _block(tokens)
            assert closed == "end"
            nodes.append(("range", text, body))
        elif word == "if":
            nodes.append(_if(text.removeprefix("if "), tokens))
        elif ":=" in text:
            name, _, value = text.partition(":=")
            nodes.append(("set", name.strip(), value))
        else:
            nodes.append(("value", text))
    return nodes, None


def _if(condition: str, tokens: Iterator[tuple[str, str]]) -> Node:
    body, closed = _block(tokens)
    otherwise: list[Node] = []
    assert closed is not None
    if closed.startswith("else if "):
        otherwise = [_if(closed.removeprefix("else if "), tokens)]
    elif closed == "else":
        otherwise, closed = _block(tokens)
        assert closed == "end"
    return ("if", condition, body, otherwise)


def _render(nodes: list[Node], dot: Any, names: dict[str, Any]) -> str:
    out = ""
    for kind, *rest in nodes:
        if kind == "text":
            out += rest[0]
        elif kind == "value":
            out += str(_value(rest[0], dot, names))
        elif kind == "set":
            names[rest[0]] = _value(rest[1], dot, names)
        elif kind == "if":
            out += _render(rest[1] if _value(rest[0], dot, names) else rest[2], dot, names)
        else:
            place, each, _, path = rest[0].removeprefix("range ").replace(",", " ").split()
            for index, item in enumerate(_value(path, dot, names)):
                out += _render(rest[1], item, {**names, place: index, each: item})
    return out


def _value(text: str, dot: Any, names: dict[str, Any]) -> Any:
    words = _WORD.findall(text)
    value = _call(words, dot, names)
    assert not words, f"{text!r} goes on with {words}"
    return value


def _call(words: list[str], dot: Any, names: dict[str, Any]) -> Any:
    """The value of the words up to a closing bracket: a function of those that follow it, or one."""
    values: list[Any] = []
    function = words.pop(0) if words[0] in _FUNCTIONS else None
    while words and words[0] != ")":
        values.append(_operand(words, dot, names))
    if function:
        return _FUNCTIONS[function](*values)
    [value] = values
    return value


def _operand(words: list[str], dot: Any, names: dict[str, Any]) -> Any:
    word = words.pop(0)
    if word == "(":
        value = _call(words, dot, names)
        assert words.pop(0) == ")"
        return value
    if word.startswith('"'):
        return json.loads(word)
    if word.isdecimal():
        return int(word)
    if word.startswith("$"):
        name, _, path = word.partition(".")
        value = names[name]
        return value[path] if path else value
    return dot[word.removeprefix(".")]


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": lambda a, b: a == b,
    "and": lambda *given: all(given),
    "or": lambda *given: any(given),
    "not": lambda a: not a,
    "len": len,
    "slice": lambda items, start: items[start:],
}
