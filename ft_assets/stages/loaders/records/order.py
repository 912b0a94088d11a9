"""The order of turns: who may follow whom, and that something is learned."""

from collections.abc import Sequence

from ft_assets.stages.loaders.records.entries import BadRecordError
from ft_assets.stages.loaders.records.turns import MAX_MESSAGES, Turn, too_many
from ft_assets.stages.reasoning import thought_in

_SHOWN = 8
_RULE = (
    "a system turn may come first, then user and assistant must take turns, with the assistant last"
)
_AFTER = {
    "start": {"system", "user"},
    "system": {"user"},
    "user": {"assistant"},
    "assistant": {"user"},
    "call": {"tool"},
    "tool": {"tool", "assistant"},
}
"""The roles that may follow each; `call` is an assistant's turn with calls."""


def check_order(turns: Sequence[Turn]) -> None:
    """Raises BadRecordError if the turns are in no order that chat formats have, or teach nothing."""
    if len(turns) > MAX_MESSAGES:
        raise BadRecordError(too_many(len(turns)))
    before = "start"
    for turn in turns:
        if turn.role not in _AFTER[before]:
            raise BadRecordError(f"its turns are {_named(turns)}: {_hint(before, turn.role)}")
        before = "call" if turn.calls else turn.role
    if before not in ("assistant", "call"):
        raise BadRecordError(f"its turns are {_named(turns)}: {_hint(before, 'end')}")
    for turn in turns:
        if turn.role in ("user", "assistant") and not turn.content.strip() and not turn.calls:
            raise BadRecordError("a question or an answer is empty")
        if turn.role == "assistant" and not turn.calls and _only_thinks(turn.content):
            raise BadRecordError("an answer is empty after its reasoning")
    if not any(turn.trained for turn in turns if turn.role == "assistant"):
        raise BadRecordError("no turn of it is to be learned (weight 0, train false): remove it")


def _only_thinks(content: str) -> bool:
    thought = thought_in(content)
    return thought is not None and not thought.answer.strip()


def _hint(before: str, role: str) -> str:
    if role == "tool":
        return (
            "the result of a tool must follow its call, under 'tool_calls' with its function under "
            "'tools'; a call written as text is not read"
        )
    if before == "call":
        return "a tool call must have its result in the next turn, whose role is tool"
    if before == "tool":
        return "after the result of a tool comes the assistant"
    if before == "user" and role == "end":
        return f"remove the last one; {_RULE}"
    if before == "start" and role == "assistant":
        return f"put a user turn before the first one, or remove it; {_RULE}"
    if before == role:
        return f"join the two {role} turns that follow each other; {_RULE}"
    return _RULE


def _named(turns: Sequence[Turn]) -> str:
    """The roles of the turns, at most a few."""
    roles = [turn.role for turn in turns]
    more = len(roles) - _SHOWN
    return (", ".join(roles[:_SHOWN]) or "none") + (f" and {more:,} more" if more > 0 else "")
