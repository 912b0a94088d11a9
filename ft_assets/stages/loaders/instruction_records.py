"""Instruction records in JSON and JSON Lines, in the layouts that datasets use."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TextIO

from ft_assets.records import InstructionRecord, Message
from ft_assets.stages.loaders.interface import clean

_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}
FORMATS = (
    "instruction + output (input), prompt + completion, question + answer, messages, "
    "conversations (ShareGPT), or text"
)

MAX_DEPTH = 64
"""The most levels of lists and objects in a record; conversations have four."""
MAX_RECORD = 16 * 2**20
"""The most characters in a record, far above any conversation; it bounds memory per file."""
TOO_LONG = f"longer than {MAX_RECORD >> 20} Mi characters: no record is"
_REST = 1 << 20


class BadRecordError(Exception):
    """A record that has none of the known formats, or lacks what its format needs."""


@dataclass(frozen=True)
class Entry:
    """One entry of a JSON file: where it starts, and its value or its problem."""

    line: int
    number: int
    value: Any = None
    problem: str | None = None

    def __str__(self) -> str:
        return f"line {self.line}, record {self.number}"


class _Decoder:
    """A JSON decoder that also finds problems which the standard one accepts."""

    def __init__(self) -> None:
        self._problems: list[str] = []
        decoder = json.JSONDecoder(object_pairs_hook=self._object, parse_constant=self._constant)
        self._decode = decoder.raw_decode

    def decode(self, text: str, position: int = 0) -> tuple[Any, int, str | None]:
        """The value at `position`, its end, and its problem if decoding can continue after it.

        Raises ValueError or RecursionError if decoding cannot continue.
        """
        self._problems = []
        value, end = self._decode(text, position)
        if end - position > MAX_RECORD:
            self._problems.append(TOO_LONG)
        brackets = text.count("[", position, end) + text.count("{", position, end)
        if brackets > MAX_DEPTH and _depth(value) > MAX_DEPTH:
            self._problems.append(f"nested deeper than {MAX_DEPTH} levels")
        return value, end, self._problems[0] if self._problems else None

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, object]:
        made = dict(pairs)
        if len(made) != len(pairs):
            [name, _], *_ = Counter(key for key, _ in pairs).most_common(1)
            self._problems.append(f"the key {name!r} stands twice in one object")
        return made

    def _constant(self, name: str) -> None:
        self._problems.append(f"{name} is not JSON: write null")


def _depth(value: Any) -> int:
    """The number of levels of lists and objects in a value."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, list | dict)]:
        depth += 1
        level = [
            below for item in level for below in (item.values() if isinstance(item, dict) else item)
        ]
    return depth


def _not_json(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return f"not JSON ({getattr(error, 'msg', error)})"


def json_entries(text: str) -> Iterator[Entry]:
    """The entries of a JSON document: the items of an array, or its single value.

    Items are decoded one at a time, so that each has its line number. A syntax error ends the file: the
    entries before it are kept, and the rest is one entry with a problem.
    """
    decoder = _Decoder()
    position = _skip(text, 0)
    line, seen, number = 1, 0, 0
    in_array = text[position : position + 1] == "["
    if in_array:
        position = _skip(text, position + 1)
    while position < len(text) and text[position] != "]":
        line, seen = line + text.count("\n", seen, position), position
        number += 1
        try:
            value, position, problem = decoder.decode(text, position)
        except (ValueError, RecursionError) as error:
            at = getattr(error, "lineno", line)
            reason = f"{_not_json(error)}; the rest of the file was not read"
            yield Entry(at, number, problem=reason)
            return
        yield Entry(line, number, value, problem)
        position = _skip(text, position)
        if in_array and text[position : position + 1] == ",":
            position = _skip(text, position + 1)
        elif not in_array or text[position : position + 1] != "]":
            break
    if text[position:].strip() not in (("]",) if in_array else ("",)):
        line += text.count("\n", seen, position)
        yield Entry(line, number + 1, problem="not JSON; the rest of the file was not read")


_SPACE = re.compile(r"[ \t\r\n]*")


def _skip(text: str, position: int) -> int:
    """The position of the next character that is not JSON white space."""
    found = _SPACE.match(text, position)
    return found.end() if found else position


def jsonl_entries(lines: TextIO) -> Iterator[Entry]:
    """The entries of a JSON Lines document; a bad line does not affect the others."""
    decoder = _Decoder()
    number = 0
    for place, line in enumerate(_lines(lines), start=1):
        if line is not None and not line.strip():
            continue
        number += 1
        if line is None:
            yield Entry(place, number, problem=TOO_LONG)
            continue
        try:
            value, end, problem = decoder.decode(line.strip())
            if end < len(line.strip()):
                problem = "not JSON (more than one value in the line)"
            yield Entry(place, number, value, problem)
        except (ValueError, RecursionError) as error:
            yield Entry(place, number, problem=_not_json(error))


def _lines(lines: TextIO) -> Iterator[str | None]:
    """The lines; None for a line longer than MAX_RECORD, which is skipped to bound memory."""
    while line := lines.readline(MAX_RECORD + 1):
        if len(line) <= MAX_RECORD or line.endswith("\n"):
            yield line
            continue
        while (more := lines.readline(_REST)) and not more.endswith("\n"):
            pass
        yield None


def read_entry(entry: Entry) -> InstructionRecord | str:
    """The instruction record in `entry` (with an empty text id), or the entry's plain text.

    Raises BadRecordError that says what is wrong.
    """
    if entry.problem:
        raise BadRecordError(entry.problem)
    if isinstance(entry.value, str):
        return entry.value
    if not isinstance(entry.value, dict):
        what = {list: "a list", type(None): "null"}.get(
            type(entry.value), "a number or truth value"
        )
        raise BadRecordError(f"{what}, where a record is: {FORMATS}")
    for keys, read in _READERS.items():
        if all(key in entry.value for key in keys):
            found = read(entry.value)
            return found if isinstance(found, str) else _record(found, entry)
    keys_found = ", ".join(map(str, list(entry.value)[:8])) or "none"
    raise BadRecordError(f"its keys are {keys_found}; a record has {FORMATS}")


def _record(found: tuple[list[Message], str | None], entry: Entry) -> InstructionRecord:
    messages, context = found
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if not turns or len(turns) % 2 or turns != ["user", "assistant"] * (len(turns) // 2):
        raise BadRecordError(
            f"its turns are {', '.join(roles) or 'none'}: user and assistant must take turns, "
            "with the assistant last"
        )
    if any(not message["content"].strip() for message in messages if message["role"] != "system"):
        raise BadRecordError("a question or an answer is empty")
    key = json.dumps([messages, context], sort_keys=True, ensure_ascii=False)
    record_id = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return InstructionRecord(record_id, "", entry.number, messages, context)


def _string(value: dict[str, object], key: str) -> str:
    text = value.get(key)
    if not isinstance(text, str):
        raise BadRecordError(f"{key!r} must be a string, not {type(text).__name__}")
    return clean(text)


def _pair(value: dict[str, object], prompt: str, completion: str) -> list[Message]:
    messages: list[Message] = [
        {"role": "user", "content": _string(value, prompt)},
        {"role": "assistant", "content": _string(value, completion)},
    ]
    if value.get("system"):
        messages.insert(0, {"role": "system", "content": _string(value, "system")})
    return messages


def _messages(turns: Any, role: str, content: str) -> list[Message]:
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise BadRecordError("its turns must be a list of objects")
    messages = []
    for turn in turns:
        name = _ROLES.get(str(turn.get(role)))
        if name is None:
            raise BadRecordError(f"unknown role {turn.get(role)!r}: known are {', '.join(_ROLES)}")
        messages.append({"role": name, "content": _string(turn, content)})
    return messages  # type: ignore[return-value]


Found = tuple[list[Message], str | None] | str


def _read_prompt(value: dict[str, object]) -> Found:
    if isinstance(value["prompt"], list):  # TRL's conversational prompt and completion
        completion = value["completion"]
        if not isinstance(completion, list):
            raise BadRecordError("'prompt' is a list of messages, so 'completion' must be one too")
        return _messages([*value["prompt"], *completion], "role", "content"), None
    return _pair(value, "prompt", "completion"), None


def _read_instruction(value: dict[str, object]) -> Found:
    context = _string(value, "input").strip() if value.get("input") else ""
    return _pair(value, "instruction", "output"), context or None


_READERS: dict[tuple[str, ...], Callable[[dict[str, object]], Found]] = {
    ("messages",): lambda value: (_messages(value["messages"], "role", "content"), None),
    ("conversations",): lambda value: (_messages(value["conversations"], "from", "value"), None),
    ("instruction", "output"): _read_instruction,
    ("prompt", "completion"): _read_prompt,
    ("question", "answer"): lambda value: (_pair(value, "question", "answer"), None),
    ("text",): lambda value: _string(value, "text"),
}
