"""Objects and lists that hold records: `{"data": […]}` and its like."""

from collections.abc import Iterator
from typing import Any

from ft_assets.stages.loaders.records.entries import Entry
from ft_assets.stages.loaders.records.spelling import (
    CONTENT_KEYS,
    CONVERSATIONS,
    has_format,
    role_named,
    role_of,
    spelled,
)

WRAPPERS = {
    *("data", "rows", "records", "examples", "train", "training", "instances", "items", "samples"),
    *("entries", "dataset", "results"),
}
"""Keys under which files keep their list of records."""


def is_turn(value: Any) -> bool:
    """Whether a value is a turn of a conversation: it has a known role, and a content or a call."""
    if not isinstance(value, dict) or not role_of(value):
        return False
    return any(key in value for key in (*CONTENT_KEYS, "tool_calls", "function_call"))


def unwrapped(entry: Entry) -> Iterator[Entry]:
    """The records that an entry holds: itself, or the items of its list."""
    value = entry.value
    if isinstance(value, dict) and not entry.problem:
        value = _row(value)
        name = _wrapping(value)
        if name is None:
            yield entry if value is entry.value else Entry(entry.line, value)
            return
        yield from (Entry(entry.line, _row(item)) for item in value[name])
        yield from _others(entry, value, name)
    elif isinstance(value, list) and not entry.problem and not (value and is_turn(value[0])):
        yield from (Entry(entry.line, item) for item in value)
    else:
        yield entry


def _row(value: Any) -> Any:
    """The row in a row of a hub's rows API."""
    if isinstance(value, dict) and "row_idx" in value and isinstance(value.get("row"), dict):
        return value["row"]
    return value


def _wrapping(value: dict[str, Any]) -> str | None:
    """The key of the list that an object wraps; None for a record."""
    if len(value) > _MAX_KEYS:
        return None
    for name, items in value.items():
        key = spelled(name)
        if not isinstance(items, list) or not items or not isinstance(items[0], dict | list):
            continue
        if key in CONVERSATIONS:
            if _are_records(items[0], in_conversation=True):
                return name
        elif (
            (key in WRAPPERS or len(value) == 1) and not is_turn(items[0]) and not has_format(value)
        ):
            return name
    return None


_MAX_KEYS = 100
"""The most keys of an object around a list; one with more is a record."""


def _are_records(first: Any, *, in_conversation: bool = False) -> bool:
    """Whether the first item of a list is a record, not a turn."""
    if isinstance(first, list):
        return bool(first) and is_turn(first[0])
    if not isinstance(first, dict) or is_turn(first) or not has_format(first):
        return False
    return not in_conversation or not _is_exchange(first)


def _is_exchange(value: dict[str, Any]) -> bool:
    """Whether an item of a conversation is a question with its answer and nothing else."""
    return len(value) == _ASKED_AND_ANSWERED and all(role_named(name) for name in value)


_ASKED_AND_ANSWERED = 2


def _others(entry: Entry, value: dict[str, Any], read: str) -> Iterator[Entry]:
    """The problems of lists of records beside the one that is read."""
    for name, items in value.items():
        if name != read and isinstance(items, list) and items and _are_records(items[0]):
            reason = f"the list {name!r} was not read, only {read!r}: put it into a file of its own"
            yield Entry(entry.line, problem=reason, lost=len(items))
