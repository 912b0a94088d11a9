"""Keys beside the turns of a conversation that belong into them."""

from typing import Any

from ft_assets.stages.loaders.records.entries import BadRecordError
from ft_assets.stages.loaders.records.pairs import context_text
from ft_assets.stages.loaders.records.spelling import CONTEXTS, Fields
from ft_assets.stages.loaders.records.turns import Turn

_INSTRUCTIONS = ("instructions", "custom_instructions", "persona", "task", "task_description")
_SAID = ("instruction", *_INSTRUCTIONS, *CONTEXTS)


def check_beside(fields: Fields, turns: list[Turn], *, is_pair: bool = False) -> None:
    """Raises BadRecordError for an instruction or context beside the turns that no turn has.

    One word or two are a name: of a file, or of a kind of records. A pair's context is read with it.
    """
    said: str | None = None
    for key in fields.among(_INSTRUCTIONS if is_pair else _SAID):
        text = _text(fields.peek(key))
        if len(text.split(maxsplit=3)) < _A_FEW:
            continue
        said = _words("\n".join(turn.content for turn in turns)) if said is None else said
        if _words(text) not in said:
            raise BadRecordError(
                f"it has {fields.name(key)!r} beside its turns, and no turn says it: put it into a "
                "turn, or remove it"
            )
        fields.take(key)


_A_FEW = 3


def _text(value: Any) -> str:
    if not isinstance(value, str | list):
        return ""
    try:
        return context_text(value, "")
    except BadRecordError:
        return ""


def _words(text: str) -> str:
    return " ".join(text.split())


def template_instructions(fields: Fields) -> str | None:
    """The system prompt in `chat_template_kwargs` (SmolTalk2); raises BadRecordError for tools there."""
    given = fields.peek("chat_template_kwargs")
    if not isinstance(given, dict):
        return None
    if any(given.get(key) for key in ("python_tools", "xml_tools")):
        raise BadRecordError("it has tools in 'chat_template_kwargs': write a list under 'tools'")
    found = given.get("custom_instructions")
    if isinstance(found, str) and found.strip():
        fields.take("chat_template_kwargs")
        return found
    return None
