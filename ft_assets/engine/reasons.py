"""Why something of a file was left out: equal reasons are told once, with their number."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_PLACE = re.compile(r"((?:(?:line|record|row|entry) [\d,]+(?:, )?)+): ")
"""Where in a file something was left out, at the beginning of the reason."""


@dataclass(frozen=True)
class Reason:
    """Why `count` parts of a file were left out, or the whole file.

    `first` is the place of the first part; "" if the reason has no place.
    """

    message: str
    count: int
    first: str

    def __str__(self) -> str:
        if self.count > 1:
            first = f", first in {self.first}" if self.first else ""
            return f"{self.count:,} times{first}: {self.message}"
        return f"{self.first}: {self.message}" if self.first else self.message


def grouped(reasons: Iterable[str]) -> list[Reason]:
    """The reasons of one file; equal ones become one, the most frequent first."""
    places: dict[str, list[str]] = {}
    for reason in reasons:
        place = _PLACE.match(reason)
        message = reason[place.end() :] if place else reason
        places.setdefault(message, []).append(place[1] if place else "")
    found = [Reason(said, len(where), where[0]) for said, where in places.items()]
    return sorted(found, key=lambda each: -each.count)
