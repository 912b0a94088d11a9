"""How the server is told to behave, and what it saw."""

import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

KEY = "sk-ant-test-key"
DAY = 24 * 3600.0
MESSAGES = "/v1/messages"
CHAT = "/v1/chat/completions"
ASKING = {MESSAGES, CHAT}
"""The paths that ask a model for an answer, here and now."""


@dataclass
class Behaviour:
    """How the server behaves; every field can be changed while it runs."""

    api_key: str = KEY
    latency: float = 0.0
    """Seconds from request to answer."""
    per_minute: dict[str, float] = field(default_factory=dict)
    """Limits of requests, input_tokens, output_tokens."""
    burst_seconds: float = 60.0
    """A full bucket holds what comes in so many seconds."""
    faults: dict[str, float] = field(default_factory=dict)
    """The rate of each fault, as `claude.faults` names them."""
    first: list[str] = field(default_factory=list)
    """The faults of the first requests, in the order in which they come; "" is none."""
    rigged: dict[str, str] = field(default_factory=dict)
    """The fault of each request whose body holds this text."""
    seed: int = 0
    retry_after: float = 1.0
    """What a `rate_limited` fault says."""
    slow_seconds: float = 5.0
    credit_usd: float | None = None
    """Once so much was billed, every request is refused for want of credit."""
    gullible: str = ""
    """`outside` or `closed`: see `claude.answers.Answerer`."""
    fence_tag: str | None = None
    """A pattern for the name of the tag that fences the document; without it, the longest block."""
    batch_seconds: float = 0.0
    batch_hidden_seconds: float = 0.0
    """A batch answers 404 for so long after it was made."""
    batch_expires_seconds: float = DAY


@dataclass
class Call:
    """What became of one request; a request inside a batch is a call of its own."""

    key: str
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    at: float = field(default_factory=time.time)
    request_id: str = field(default_factory=lambda: f"req_{secrets.token_hex(12)}")
    fault: str = ""
    status: int = 0
    """0: the connection closed without a whole answer."""
    billed: bool = False
    usage: dict[str, Any] | None = None
    usd: float = 0.0
    batch_id: str = ""
    custom_id: str = ""
    error: str = ""

    @property
    def asks(self) -> bool:
        """Whether a model was asked, be it in a batch."""
        return self.path in ASKING


@dataclass
class Violation:
    """A request that came back before the retry-after it was given had passed."""

    key: str
    seconds_early: float
    at: float


class Record:
    """What the server saw: the same in its process and out of it."""

    def calls(self) -> list[Call]:
        """All requests so far, in the order in which they ended."""
        raise NotImplementedError

    def violations(self) -> list[Violation]:
        """Requests that came back too early."""
        raise NotImplementedError

    def obeyed(self) -> list[str]:
        """The orders that a gullible model has followed."""
        raise NotImplementedError

    def in_flight(self) -> int:
        """How many requests have come and not ended: an answer to a client that was killed is made,
        and billed, all the same."""
        raise NotImplementedError

    def asked(self) -> list[Call]:
        """The calls that ask a model."""
        return [call for call in self.calls() if call.asks]

    def billed(self) -> Counter[str]:
        """How often an answer was made and billed for each key, whether or not it arrived."""
        return Counter(call.key for call in self.calls() if call.billed)

    def usd(self) -> float:
        """What all this costs."""
        return sum(call.usd for call in self.calls())

    def wait_idle(self, seconds: float = 60.0) -> None:
        """Waits until no request is in flight."""
        deadline = time.monotonic() + seconds
        while self.in_flight():
            assert time.monotonic() < deadline, "the server has requests in flight"
            time.sleep(0.02)
