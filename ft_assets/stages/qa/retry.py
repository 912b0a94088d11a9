"""When a failed call is retried: how often, after how long, and when not.

Three calls are retried, each by its own `Retry`: a message, the creation of a batch, and a question
about batches, which is free. The providers' clients never retry by themselves, because every request
that may cost money must have its lines in the ledger.
"""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from ft_assets.errors import StageError

Again = Literal["", "later", "limited"]
"""Whether the same request may succeed: never, later, or once a rate limit allows it."""
Failure = Literal["failed", "unknown", "limited"]
"""How a request can fail: an error status, a lost answer, or a rate limit."""

PATIENCE_SECONDS = 900.0
"""The longest wait that a rate limit may ask for; for a longer one the run ends with an error."""


@dataclass
class Retry:
    """How one kind of call is retried. All waits are in seconds.

    `tries` is the total number of tries by kind of failure; a kind that is not listed gets one try. The
    wait doubles from `first_wait` to `longest_wait`, unless the answer asks for another wait; one above
    `patience` ends the tries. `jitter` shortens a wait by up to half, so that requests which failed
    together do not return together. `at_least` ignores a requested wait that is shorter.
    """

    tries: Mapping[Failure, int] = field(default_factory=dict)
    first_wait: float = 0.5
    longest_wait: float = 30.0
    patience: float = PATIENCE_SECONDS
    jitter: bool = False
    at_least: bool = False

    def wait(self, failure: Failure, times: int, asked: float | None = None) -> float | None:
        """Seconds until the next try after `times` failures of a kind; None if there is no next try.

        `asked` is the wait in seconds that the answer asks for.
        """
        wait = self._back_off(times)
        if asked is not None:
            wait = max(wait, asked) if self.at_least else asked
        last = times >= self.tries.get(failure, 1) or wait > self.patience
        return None if last else wait

    def _back_off(self, times: int) -> float:
        most = min(self.longest_wait, self.first_wait * 2.0 ** (times - 1))
        return most * (0.5 + random.random() / 2) if self.jitter else most  # noqa: S311 (no secret)


MESSAGES = Retry({"failed": 6, "unknown": 3, "limited": 50}, jitter=True)
BATCHES = Retry({"failed": 5, "limited": 5}, first_wait=1.0, longest_wait=60.0)
"""`unknown` is not listed: a batch whose creation was not answered may exist, so it is looked up, not
sent again."""
QUESTIONS = Retry({"failed": 5}, patience=30.0, at_least=True)
ONCE = Retry()


def again_after(status: int) -> Again:
    """Whether a request that got an error status may succeed later."""
    if status == 429:
        return "limited"
    return "later" if status >= 500 or status in (408, 409) else ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that an answer asks to wait, given as a number or a date; None if it does not ask."""
    said = headers.get("retry-after", "")
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def wait_until(moment: float) -> float:
    """Seconds until `moment` (Unix time), before which nothing may be sent.

    Raises StageError if that is longer than PATIENCE_SECONDS.
    """
    wait = moment - time.time()
    if wait > PATIENCE_SECONDS:
        until = datetime.fromtimestamp(moment, UTC)
        raise StageError(
            f"a rate limit allows no more requests until {until:%Y-%m-%d %H:%M} UTC: run again then"
        )
    return max(0.0, wait)
