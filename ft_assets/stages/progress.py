"""Lines of progress that are as many as one wants to read, however long the work takes."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from ft_assets.stages.job import Report

Item = TypeVar("Item")

_LEAST, _MOST = 5.0, 30.0
"""Seconds between two lines: few at first, more in a work of hours, whose lines a run's page keeps."""
_SHARE = 0.01


class Throttled:
    """Passes on a line each few seconds at most, and those that are to be seen always."""

    def __init__(self, report: Report, clock: Callable[[], float] = time.monotonic) -> None:
        self._report, self._clock = report, clock
        self._began = clock()
        self._last = self._began - _MOST

    def __call__(self, line: str, *, always: bool = False) -> None:
        """Reports the line, unless another one was reported just before."""
        now = self._clock()
        wait = min(_MOST, max(_LEAST, _SHARE * (now - self._began)))
        if always or now - self._last >= wait:
            self._last = now
            self._report(line)


def counting(items: Iterable[Item], of: int, what: str, report: Report) -> Iterator[Item]:
    """Passes items on and reports how many came, as `12 of 24 questions`."""
    say = Throttled(report)
    for number, item in enumerate(items, 1):
        say(f"{number:,} of {of:,} {what}", always=number == of)
        yield item
