"""The answer of a pair: a text, calls, a number, or a list with one answer in it."""

from typing import Any

from ft_assets.stages.loaders.interface import clean
from ft_assets.stages.loaders.records.calls import are_calls
from ft_assets.stages.loaders.records.entries import BadRecordError
from ft_assets.stages.loaders.records.options import option_lines
from ft_assets.stages.loaders.records.rendered import Chat, rendered_chat
from ft_assets.stages.loaders.records.spelling import OPTIONS, Fields
from ft_assets.stages.loaders.records.turns import Turn

_NUMBERS = ("output", "completion", "response", "answer", "solution")
"""Keys whose number is an answer; under `target` it is a class."""

_ONE_ANSWER = {
    *("text", "value", "answer_start", "answer_end", "start", "end", "type", "aliases"),
    *("normalized_value", "normalized_aliases", "matched_wiki_entity_name"),
    "normalized_matched_wiki_entity_name",
}
"""The keys of an object that holds an answer and says where it was found."""


def read_answer(fields: Fields, key: str) -> Turn | None:
    """The turn of an answer; None for a string, and for what is no answer.

    Raises BadRecordError for several answers, and for the number of an option.
    """
    value, name = fields.peek(key), fields.name(key)
    if any(map(fields.peek, ("tools", "functions"))):
        if are_calls(value):
            return Turn("assistant", "", calls=fields.take(key))
        if value in ("[]", []):
            raise BadRecordError(f"{name!r} has no call: write what the assistant says instead")
    _check_option(fields, key)
    found = _one_of(value, name) if isinstance(value, list) else value
    if isinstance(found, dict) and found.keys() <= _ONE_ANSWER:
        found = next((found[part] for part in ("text", "value") if part in found), None)
        found = _one_of(found, name) if isinstance(found, list) else found
    if isinstance(found, int | float) and not isinstance(found, bool) and key in _NUMBERS:
        found = str(found)
    if isinstance(found, str) and not isinstance(value, str):
        fields.take(key)
        return Turn("assistant", clean(found))
    return None


def _one_of(values: list[Any], name: str) -> Any:
    """The one answer in a list; a list of something else comes back as it is."""
    if not all(isinstance(value, str | dict) and not _has_role(value) for value in values):
        return values
    different = [value for place, value in enumerate(values) if value not in values[:place]][:2]
    if len(different) > 1:
        raise BadRecordError(f"{name!r} has several answers: keep the one to be learned")
    return different[0] if different else ""


def _has_role(value: Any) -> bool:
    return isinstance(value, dict) and ("role" in value or "from" in value)


def _check_option(fields: Fields, key: str) -> None:
    """Raises BadRecordError if an answer is the number of an option: it may count from 0 or 1."""
    value = fields.peek(key)
    is_number = isinstance(value, int) or (isinstance(value, str) and value.strip().isdigit())
    name = next(iter(fields.among(OPTIONS)), None)
    if not name or not is_number or fields.peek(name) in ("", []):
        return
    lines = option_lines(fields.peek(name), fields.name(name)).splitlines()
    known = {line.strip("(").partition(mark)[0] for line in lines for mark in ".):"}
    if isinstance(value, str):
        known |= {line.partition(" ")[2] for line in lines}
    if str(value).strip() not in known:
        raise BadRecordError(
            f"{fields.name(key)!r} is the number of an option, which may count from 0 or from 1: "
            "write the option's letter or text"
        )


def rendered_pair(fields: Fields, ask: str, answer: str) -> Chat | None:
    """The chat of a question that is rendered up to where its answer begins; None for another.

    Raises BadRecordError if the question is a rendered chat that ends elsewhere.
    """
    asked, answered = fields.peek(ask), fields.peek(answer)
    if not isinstance(asked, str) or not isinstance(answered, str):
        return None
    begun = rendered_chat(clean(asked) + _ANSWER)
    if begun is None:
        return None
    if begun.turns[-1].content.strip() != _ANSWER:
        raise BadRecordError(
            f"{fields.name(ask)!r} is a chat already rendered that does not end where the answer "
            "begins: write a list of 'messages' with 'role' and 'content' instead"
        )
    fields.take(ask)
    fields.take(answer)
    whole = rendered_chat(clean(asked) + clean(answered))
    if whole and len(whole.turns) == len(begun.turns):
        return whole
    begun.turns[-1].content = clean(answered).strip(" ")
    return begun


_ANSWER = "answer"
