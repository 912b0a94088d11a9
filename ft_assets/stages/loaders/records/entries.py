"""One entry of a file of records, and the JSON decoder that finds what the standard one accepts."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 64
"""The most levels of lists and objects in a record; conversations have four."""
MAX_RECORD = 16 * 2**20
"""The most characters in a record, far above any conversation; it bounds memory per file."""
_MAX_DIGITS = 4_000
"""Python converts no longer numbers."""
TOO_LONG = f"longer than {MAX_RECORD >> 20} Mi characters: no record is"


class BadRecordError(Exception):
    """An entry that has none of the known formats, or lacks what its format needs."""


@dataclass(frozen=True)
class Entry:
    """One entry of a file: the line where it starts, and its value or its problem.

    `line` is None in a file without lines. `lost` is the number of records that a problem stands for.
    """

    line: int | None
    value: Any = None
    problem: str | None = None
    lost: int = 1


class Decoder:
    """A JSON decoder that also finds problems which the standard one accepts."""

    def __init__(self) -> None:
        self._problems: list[str] = []
        decoder = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_constant=self._constant,
            parse_int=self._integer,
        )
        self._decode = decoder.raw_decode

    def decode(self, text: str, position: int = 0) -> tuple[Any, int, str | None]:
        """The value at `position`, its end, and its problem if decoding can continue after it.

        Raises ValueError or RecursionError if decoding cannot continue.
        """
        self._problems = []
        value, end = self._decode(text, position)
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

    def _integer(self, digits: str) -> int:
        if len(digits) > _MAX_DIGITS:
            self._problems.append(f"a number of {len(digits):,} digits: write it as a string")
            return 0
        return int(digits)

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


def not_json(error: Exception) -> str:
    """What a decoder's error says."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return f"not JSON ({getattr(error, 'msg', error)})"


def parsed_json(text: str) -> Any:
    """The value of a string that holds JSON; raises BadRecordError for anything else."""
    try:
        value, end, problem = Decoder().decode(text.strip())
    except (ValueError, RecursionError) as error:
        raise BadRecordError(not_json(error)) from error
    if problem or end < len(text.strip()):
        raise BadRecordError(problem or "not JSON (more than one value)")
    return value
