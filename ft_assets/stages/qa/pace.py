"""How fast requests may go out, by the rate-limit headers and requested pauses."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_BEHIND_SECONDS = 0.1
"""How much delay may be caught up; a longer one is not, to avoid a burst."""
_SHARE = 0.98
"""The share of a limit that is used; at 100% a request that is a moment early is refused."""


@dataclass(frozen=True)
class Limit:
    """A limit per minute, and how much of it is left."""

    per_minute: float
    remaining: float


class Pacer:
    """Says when the next request may go out.

    There is no delay while every limit has room for all requests that can be in flight; after that,
    requests go out at the rate at which the scarcest limit refills. `window` is the most requests in
    flight. Until the first answer it is 1, so that a wrong key or a broken server costs one request.
    """

    def __init__(self, window: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._full_window, self._clock = window, clock
        self._proven = False
        self._next = self._paused_until = 0.0
        self._limits: dict[str, Limit] = {}
        self._sizes: dict[str, float] = {"requests": 1.0}

    @property
    def window(self) -> int:
        """The most requests that may be in flight."""
        return self._full_window if self._proven else 1

    def wait(self) -> float:
        """Seconds until the next request may go out; 0 if it may go now."""
        return max(0.0, self._paused_until - self._clock(), self._next - self._clock())

    def sent(self) -> None:
        """Records that a request goes out now."""
        self._next = max(self._next, self._clock() - _BEHIND_SECONDS) + self._interval()

    def pause(self, seconds: float) -> None:
        """Stops all requests for `seconds`."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    def heard(self, limits: Mapping[str, Limit], usage: Mapping[str, int]) -> None:
        """Records the limits that an answer reports, and how much of them it used."""
        self._limits |= limits
        if usage:
            self._proven = True
        for name in ("input_tokens", "output_tokens"):
            if used := usage.get(name):
                known = self._sizes.get(name, used)
                self._sizes[name] = 0.9 * known + 0.1 * used

    def _interval(self) -> float:
        """Seconds between two requests at the rate of the scarcest limit."""
        waits = [0.0]
        for name, limit in self._limits.items():
            size = self._sizes.get(name, 1.0)
            if limit.remaining < size * (self._full_window + 1) and limit.per_minute > 0:
                waits.append(60.0 * size / (_SHARE * limit.per_minute))
        return max(waits)
