"""Makes an entry an instruction record or a text, or says why it is neither."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from ft_assets.records import InstructionRecord
from ft_assets.stages.loaders.interface import clean
from ft_assets.stages.loaders.records.beside import check_beside, template_instructions
from ft_assets.stages.loaders.records.calls import read_written, with_calls
from ft_assets.stages.loaders.records.content import read_content
from ft_assets.stages.loaders.records.entries import BadRecordError
from ft_assets.stages.loaders.records.marks import check_preference, check_record
from ft_assets.stages.loaders.records.order import check_order
from ft_assets.stages.loaders.records.pairs import find_pair, read_pair
from ft_assets.stages.loaders.records.rendered import rendered_chat
from ft_assets.stages.loaders.records.spelling import CONVERSATIONS, SYSTEMS, Fields, role_named
from ft_assets.stages.loaders.records.tools import json_text, read_tools, unused_in
from ft_assets.stages.loaders.records.turns import Conversation, Turn, read_turns

FORMATS = (
    "messages or conversations, a question and its answer (instruction + output with input, "
    "prompt + completion, question + answer and their like), or text"
)


@dataclass
class Read:
    """What an entry holds: a record (with an empty text id) or a text; and the keys not used."""

    found: InstructionRecord | str
    unused: list[str] = field(default_factory=list)


def read_value(value: Any, number: int) -> Read:
    """Reads the `number`th entry of a file.

    Raises BadRecordError that says what is wrong and what to change.
    """
    if isinstance(value, list):
        return _record(Fields({}), read_turns(value, "messages"), None, number)
    if isinstance(value, str):
        return _text(Fields({}), value, number)
    if not isinstance(value, dict):
        what = "null" if value is None else "a number or truth value"
        raise BadRecordError(f"{what}, where a record is: {FORMATS}")
    fields = Fields(value)
    check_preference(fields)
    keys = [name for name in fields.among(CONVERSATIONS) if _is_there(fields.peek(name))]
    if _are_strings(fields.peek("data")):
        keys.append("data")
    pair = find_pair(fields) if not keys or _is_prose(fields.peek(keys[0])) else None
    if keys and not pair:
        check_record(fields, is_text=False)
        return _conversation(fields, keys[0], number)
    if pair:
        check_record(fields, is_text=False)
        conversation, given = read_pair(fields, *pair)
        check_beside(fields, conversation.turns, is_pair=True)
        return _record(fields, conversation, given, number)
    if "text" in fields:
        _check_turn_by_itself(fields)
        check_record(fields, is_text=True)
        return _text(fields, fields.take("text"), number)
    raise BadRecordError(_unknown(fields))


def _is_there(value: Any) -> bool:
    return isinstance(value, list | dict | str) and value not in ([], {}, "", "[]")


def _are_strings(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(v, str) for v in value)


def _is_prose(value: Any) -> bool:
    """Whether a string is no list of turns: an id, or a chat as text."""
    return isinstance(value, str) and value.lstrip()[:1] not in ("[", "{")


def _conversation(fields: Fields, key: str, number: int) -> Read:
    """The record of the turns under a key, or of a chat that is rendered there."""
    value = fields.take(key)
    chat = rendered_chat(clean(value)) if _is_prose(value) else None
    found = Conversation(chat.turns) if chat else read_turns(value, fields.name(key))
    check_beside(fields, found.turns)
    return _record(fields, found, chat.input if chat else None, number)


def _check_turn_by_itself(fields: Fields) -> None:
    """Raises BadRecordError for a text that is one turn of a conversation."""
    has_role = any(role_named(fields.peek(key)) for key in ("role", "from", "speaker", "sender"))
    if has_role or any(isinstance(fields.peek(key), bool) for key in ("is_user", "is_human")):
        raise BadRecordError(_TURN)


def _unknown(fields: Fields) -> str:
    """Why an object has none of the formats."""
    if fields.among(CONVERSATIONS):
        return "its list of turns is empty"
    if "segments" in fields:
        return "axolotl's 'segments' are not read: write 'messages' with 'role' and 'content'"
    if "input_ids" in fields:
        return "it holds token ids: write the text, or 'messages'"
    if "chosen" in fields:
        return "a preference record: to learn the chosen answer, write it as 'completion'"
    if "role" in fields or "from" in fields:
        return _TURN
    if any(isinstance(fields.peek(key), list | dict) for key in fields.among(("body", "request"))):
        return (
            "a request around a conversation: write its 'messages', with the answer, as the record"
        )
    names = fields.names()
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    shown = ", ".join(name[:_LONGEST] for name in names[:_SHOWN]) or "none"
    return f"its keys are {shown}{more}; a record has {FORMATS}"


_TURN = "a turn by itself: put the turns of a conversation into a list under 'messages'"
_SHOWN = 8
_LONGEST = 60


def _text(fields: Fields, value: Any, number: int) -> Read:
    """A text, or the record of a chat that is rendered in it."""
    if not isinstance(value, str):
        raise BadRecordError(f"'text' must be a string, not {type(value).__name__}")
    text = clean(value)
    if not text.strip():
        raise BadRecordError("its text is empty")
    if chat := rendered_chat(text):
        return _record(fields, Conversation(chat.turns), chat.input, number)
    return Read(text, fields.unused())


def _record(fields: Fields, conversation: Conversation, given: str | None, number: int) -> Read:
    """The record of a conversation, once its turns, calls and tools are in order."""
    turns = conversation.turns
    _add_system(fields, turns)
    tools = read_tools(fields)
    turns = read_written(turns) if tools else turns
    check_order(turns)
    messages = with_calls(turns, tools)
    tool_text = json_text(tools) if tools else None
    parts = [messages, given, tool_text] if tools else [messages, given]
    key = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    record_id = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    record = InstructionRecord(record_id, "", number, messages, given, tool_text)
    unused = [*fields.unused(), *conversation.unused]
    if tools:
        unused += unused_in(fields.peek("tools") or fields.peek("functions"))
    return Read(record, unused)


def _add_system(fields: Fields, turns: list[Turn]) -> None:
    """Puts the system prompt that is beside the turns before them."""
    found: list[str] = []
    for key in fields.among(SYSTEMS):
        found.append(read_content(fields.take(key), f"{fields.name(key)!r}: ").text)
    if instructions := template_instructions(fields):
        found.append(instructions)
    found = [text.removeprefix("SYSTEM: ") for text in found]
    found = list(dict.fromkeys(text for text in found if text.strip()))
    if not found:
        return
    is_first = bool(turns) and turns[0].role == "system"
    if len(found) > 1 or (is_first and turns[0].content.strip() not in ("", found[0].strip())):
        raise BadRecordError("it has two system prompts that differ: keep one")
    if is_first:
        turns[0].content = found[0]
    else:
        turns.insert(0, Turn("system", found[0]))
