"""Rate limits as token buckets that refill all the time, and whether a client honours them."""

import math
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ft_assets_tests.stages.qa.claude_api.errors import ApiError
from ft_assets_tests.stages.qa.claude_api.record import Violation


def stamp(seconds: float) -> str:
    """A time in the API's format."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


@dataclass
class Bucket:
    """A number of units per minute; `burst` of them are available at once."""

    per_minute: float
    burst: float
    level: float = field(init=False)
    at: float = field(init=False)

    def __post_init__(self) -> None:
        self.level = self.burst
        self.at = time.monotonic()

    def refill(self) -> None:
        """Brings the level up to now."""
        now = time.monotonic()
        self.level = min(self.burst, self.level + (now - self.at) * self.per_minute / 60)
        self.at = now

    def seconds_until(self, units: float) -> float:
        """Seconds until that many units are available, or until the bucket is full if it has fewer."""
        return max(0.0, (min(units, self.burst) - self.level) * 60 / self.per_minute)


@dataclass
class Limits:
    """The buckets of an account by what they count: requests, input_tokens, output_tokens."""

    buckets: dict[str, Bucket]

    def take(self, units: dict[str, float]) -> None:
        """Takes units out, or raises 429 with a retry-after in whole seconds and takes none."""
        waits = {}
        for name, bucket in self.buckets.items():
            bucket.refill()
            waits[name] = bucket.seconds_until(units.get(name, 0.0))
        worst = max(waits, key=lambda name: waits[name], default="")
        if worst and waits[worst] > 1e-6:
            limit = f"{self.buckets[worst].per_minute:g} {worst.replace('_', ' ')} per minute"
            said = f"This request would exceed your organization's rate limit of {limit}"
            raise ApiError(429, said, math.ceil(waits[worst]))
        for name, bucket in self.buckets.items():
            bucket.level -= units.get(name, 0.0)

    def charge(self, name: str, units: float) -> None:
        """Takes units that are known only afterwards; the level may become negative."""
        if name in self.buckets:
            self.buckets[name].refill()
            self.buckets[name].level -= units

    def headers(self) -> dict[str, str]:
        """The current anthropic-ratelimit headers."""
        found = {}
        for name, bucket in self.buckets.items():
            bucket.refill()
            reset = datetime.now(UTC) + timedelta(seconds=bucket.seconds_until(bucket.burst))
            head = f"anthropic-ratelimit-{name.replace('_', '-')}"
            found[f"{head}-limit"] = f"{bucket.per_minute:g}"
            found[f"{head}-remaining"] = str(max(0, math.floor(bucket.level)))
            found[f"{head}-reset"] = reset.isoformat(timespec="seconds").replace("+00:00", "Z")
        return found


@dataclass
class RetryAfter:
    """Senders that were told to wait, and those that came back too early."""

    until: dict[str, float] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)

    def told(self, key: str, seconds: float | None) -> None:
        """Records that the sender of a request was told to wait."""
        if seconds is not None:
            self.until[key] = time.monotonic() + seconds

    def came(self, key: str) -> None:
        """Records a request, and whether it came too early."""
        early = self.until.pop(key, 0.0) - time.monotonic()
        if early > 0:
            self.violations.append(Violation(key, early, time.time()))
