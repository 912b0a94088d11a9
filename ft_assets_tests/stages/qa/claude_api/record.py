"""The server's configured behaviour, and its record of requests."""

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
"""The paths that ask a model for an immediate answer."""


@dataclass
class Behaviour:
    """The server's behaviour; every field can be changed while it runs."""

    api_key: str = KEY
    latency: float = 0.0
    """Seconds from request to answer."""
    per_minute: dict[str, float] = field(default_factory=dict)
    """Limits of requests, input_tokens, output_tokens."""
    burst_seconds: float = 60.0
    """A full bucket contains the units of this many seconds."""
    faults: dict[str, float] = field(default_factory=dict)
    """The rate of each fault, by the names in `claude_api/faults.py`."""
    first: list[str] = field(default_factory=list)
    """The faults of the first requests, in order of arrival; "" means no fault."""
    rigged: dict[str, str] = field(default_factory=dict)
    """Maps a text to the fault of requests whose body contains it."""
    seed: int = 0
    retry_after: float = 1.0
    """The retry-after of a `rate_limited` fault, in seconds."""
    slow_seconds: float = 5.0
    credit_usd: float | None = None
    """After this much was billed, every request is refused for lack of credit."""
    gullible: str = ""
    """`outside` or `closed`: see `Answerer` in `claude_api/answers.py`."""
    fence_tag: str | None = None
    """A pattern for the name of the tag that fences the document; without it, the longest block."""
    batch_seconds: float = 0.0
    batch_hidden_seconds: float = 0.0
    """A batch returns 404 for this many seconds after it was created."""
    batch_expires_seconds: float = DAY


@dataclass
class Call:
    """The outcome of one request; each request in a batch is a call."""

    key: str
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    at: float = field(default_factory=time.time)
    request_id: str = field(default_factory=lambda: f"req_{secrets.token_hex(12)}")
    fault: str = ""
    status: int = 0
    """0: the connection closed without a complete answer."""
    billed: bool = False
    usage: dict[str, Any] | None = None
    usd: float = 0.0
    batch_id: str = ""
    custom_id: str = ""
    error: str = ""

    @property
    def asks(self) -> bool:
        """Whether a model was asked, directly or in a batch."""
        return self.path in ASKING


@dataclass
class Violation:
    """A request that came back before its retry-after had passed."""

    key: str
    seconds_early: float
    at: float


class Record:
    """The server's record; the interface is the same inside and outside its process."""

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
        """The number of requests received and not ended. An answer to a killed client is created and
        billed too."""
        raise NotImplementedError

    def asked(self) -> list[Call]:
        """The calls that ask a model."""
        return [call for call in self.calls() if call.asks]

    def billed(self) -> Counter[str]:
        """How often an answer was created and billed for each key, even if it did not arrive."""
        return Counter(call.key for call in self.calls() if call.billed)

    def usd(self) -> float:
        """The cost of all answers in USD."""
        return sum(call.usd for call in self.calls())

    def wait_idle(self, seconds: float = 60.0) -> None:
        """Waits until no request is in flight."""
        deadline = time.monotonic() + seconds
        while self.in_flight():
            assert time.monotonic() < deadline, "the server has requests in flight"
            time.sleep(0.02)
