"""Records of one question and its answer, in the keys of every dialect."""

from typing import Any

from ft_assets.stages.loaders.interface import clean
from ft_assets.stages.loaders.records.answers import read_answer, rendered_pair
from ft_assets.stages.loaders.records.entries import BadRecordError, parsed_json
from ft_assets.stages.loaders.records.options import option_lines
from ft_assets.stages.loaders.records.spelling import (
    ANSWERS,
    ASKS,
    CONTEXTS,
    OPTIONS,
    Fields,
)
from ft_assets.stages.loaders.records.thoughts import take_reasoning
from ft_assets.stages.loaders.records.turns import Conversation, Turn, read_turns
from ft_assets.stages.loaders.records.wrappers import is_turn


def find_pair(fields: Fields) -> tuple[str, str] | None:
    """The keys of the question and the answer; None if one is missing.

    Raises BadRecordError if there are several, because the wrong one would be learned.
    """
    asks, answers = _filled(fields, ASKS), _filled(fields, ANSWERS)
    if answers and not asks and _asks_by_text(fields, answers[0]):
        asks = ["text"]
    if not asks or not answers:
        return None
    for other in asks[1:]:
        is_told = isinstance(fields.peek(other), str) and other in _ONE_OF
        if is_told and not _is_in(fields.peek(asks[0]), fields.peek(other)):
            raise BadRecordError(_both(fields, asks[0], other))
    for other in answers[1:]:
        if other in _ONE_OF and fields.peek(other) != fields.peek(answers[0]):
            raise BadRecordError(_both(fields, answers[0], other))
    for better in fields.among(("corrected", "revision")):
        if _is_filled(fields.peek(better)):
            raise BadRecordError(_both(fields, answers[0], better))
    return asks[0], answers[0]


_ONE_OF = {
    *("instruction", "prompt", "question", "query", "problem"),
    *("output", "completion", "response", "answer", "solution"),
}
"""Keys that hold a question or an answer wherever they are; `user` may be a name."""


def _filled(fields: Fields, keys: tuple[str, ...]) -> list[str]:
    """Those of the keys that are there; of several, those that are not empty."""
    found = fields.among(keys)
    if len(found) > 1:
        return [key for key in found if _is_filled(fields.peek(key))] or found[:1]
    return found


def _is_filled(value: Any) -> bool:
    return bool(value.strip()) if isinstance(value, str) else value is not None and value != []


def _asks_by_text(fields: Fields, answer: str) -> bool:
    """Whether `text` is the question of an answer beside it, which it does not hold."""
    text, answered = fields.peek("text"), fields.peek(answer)
    if answer not in _ONE_OF or not isinstance(text, str) or not isinstance(answered, str):
        return False
    return bool(answered.strip()) and answered.strip() not in text


def _is_in(text: Any, other: Any) -> bool:
    """Whether another text only renders this one: that is no second question."""
    return isinstance(text, str) and isinstance(other, str) and text in other


def _both(fields: Fields, one: str, other: str) -> str:
    return (
        f"it has both {fields.name(one)!r} and {fields.name(other)!r}: keep the one to be learned"
    )


def read_pair(fields: Fields, ask: str, answer: str) -> tuple[Conversation, str | None]:
    """The turns of a question and its answer, and the text that the question is about."""
    extras = (fields.peek(key) for key in ("history", *OPTIONS))
    if not any(extras) and (chat := rendered_pair(fields, ask, answer)):
        given = _context(fields, ask, answer)
        is_said = given and any(given in turn.content for turn in chat.turns)
        return Conversation(chat.turns), chat.input or (None if is_said else given)
    read = read_answer(fields, answer)
    answered = Conversation([read]) if read else _turns(fields, answer)
    asked = _turns(fields, ask)
    _add_reasoning(fields, answered)
    history = _history(fields.take("history"))
    unused = {**history.unused, **asked.unused, **answered.unused}
    for key in fields.among(OPTIONS):
        if fields.peek(key) not in ("", []):
            lines = option_lines(fields.take(key), fields.name(key))
            asked.turns[-1].content += f"\n{lines}"
    turns = [*asked.turns, *answered.turns]
    if history.turns:
        start = 1 if turns[0].role == "system" else 0
        turns[start:start] = history.turns
    return Conversation(turns, unused), _context(fields, ask, answer)


def _add_reasoning(fields: Fields, answered: Conversation) -> None:
    """Gives the answer the thoughts that are beside it."""
    last = answered.turns[-1] if answered.turns else None
    if last and last.role == "assistant":
        reasoning = take_reasoning(fields, last.content, "it ", beside=last.reasoning or "")
        last.reasoning = reasoning


def _turns(fields: Fields, key: str) -> Conversation:
    """A question or an answer as turns: a string, or a list of messages."""
    value, name = fields.take(key), fields.name(key)
    is_answer = key in ANSWERS
    if isinstance(value, str) and value.lstrip().startswith('[{"') and _is_list_of_turns(value):
        value = parsed_json(value)
    if isinstance(value, dict) and is_turn(value):
        value = [value]
    if isinstance(value, list) and value and is_turn(value[0]):
        return read_turns(value, name)
    if not isinstance(value, str):
        hint = ": write JSON as a string" if isinstance(value, dict | list) else ""
        raise BadRecordError(f"{name!r} must be a string, not {type(value).__name__}{hint}")
    return Conversation([Turn("assistant" if is_answer else "user", clean(value))])


def _is_list_of_turns(text: str) -> bool:
    try:
        value = parsed_json(text)
    except BadRecordError:
        return False
    return isinstance(value, list) and bool(value) and is_turn(value[0])


def _context(fields: Fields, ask: str, answer: str) -> str | None:
    """The text that a question is about; None if there is none."""
    found: dict[str, str] = {}
    beside = [key for key in _TEXTS if _is_context(fields, key, ask, answer)]
    for key in [*fields.among(CONTEXTS), *beside]:
        if key != ask:
            text = context_text(fields.take(key), fields.name(key))
            if text and text not in _NONE and text not in found.values():
                found[key] = text
    if len(found) > 1:
        one, other, *_ = found
        raise BadRecordError(
            f"it has both {fields.name(one)!r} and {fields.name(other)!r}: join them under 'input'"
        )
    return next(iter(found.values()), None)


_TEXTS = ("text", "content")
"""Keys of a text that a question may be about, or that renders the record."""


def _is_context(fields: Fields, key: str, ask: str, answer: str) -> bool:
    """Whether a text beside a pair is one that has not both of its question and its answer."""
    text = fields.peek(key)
    if key == ask or not isinstance(text, str):
        return False
    said = [fields.peek(part) for part in (ask, answer)]
    return not all(isinstance(part, str) and part.strip() in text for part in said)


_NONE = ("<noinput>", "<no input>")
"""What Self-Instruct and its like write for an input that is not there."""


def context_text(value: Any, name: str) -> str:
    """The text of a context: a string, or a list of strings or of documents with a text."""
    if isinstance(value, list):
        texts = [_document(item) for item in value]
        if None not in texts:
            value = "\n\n".join(filter(None, texts))
    if not isinstance(value, str):
        raise BadRecordError(f"{name!r} must be a string, not {type(value).__name__}")
    return clean(value).strip()


def _document(item: Any) -> str | None:
    """The text of a document in a list, below its title; None if it has none."""
    if not isinstance(item, dict):
        return item if isinstance(item, str) else None
    keys = ("text", "content", "page_content", "body", "passage")
    text = next((item[key] for key in keys if isinstance(item.get(key), str)), None)
    title = item.get("title")
    return f"{title}\n{text}" if text and isinstance(title, str) and title else text


def _history(value: Any) -> Conversation:
    """Earlier questions and answers: pairs of strings, or turns."""
    if isinstance(value, str) and value.strip():
        value = parsed_json(value)
    if not value:
        return Conversation()
    if not isinstance(value, list):
        raise BadRecordError("'history' must be a list of pairs [question, answer]")
    if is_turn(value[0]):
        return read_turns(value, "history")
    turns = []
    for pair in value:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise BadRecordError("'history' must be a list of pairs [question, answer]")
        if not all(isinstance(text, str) for text in pair):
            raise BadRecordError("'history' must be a list of pairs of strings")
        turns += [Turn("user", clean(pair[0])), Turn("assistant", clean(pair[1]))]
    return Conversation(turns)
