"""What can go wrong with an answer, each by name, drawn from a seed.

A draw depends on the seed, the request and how often it has come: not on the order in which threads
happen to run.
"""

from typing import Any

from ft_assets_tests.stages.qa.claude_api.answers import digest_of
from ft_assets_tests.stages.qa.claude_api.errors import ApiError

NO_CREDIT = (
    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to "
    "upgrade or purchase credits."
)
REFUSED = {
    "rate_limited": (429, "This request would exceed your organization's rate limit"),
    "api_error": (500, "Internal server error"),
    "overloaded": (529, "Overloaded"),
    "no_credit": (400, NO_CREDIT),
    "usage_limit": (400, "You have reached your specified API usage limits."),
    "bad_request": (400, "messages.0: this request is not one that can be processed"),
    "billing": (402, "Your account has a billing problem: update your payment method"),
}
"""Answered with an error before an answer is made: not billed."""
LOST_BEFORE = {"closed_before", "timeout_before"}
"""The connection closes before an answer is made, at once or after `slow_seconds`: not billed."""
LOST_AFTER = {"closed_after", "timeout_after", "half_answer"}
"""An answer is made and billed, and gets lost, the last one halfway."""
SLOW = {"slow"}
"""An answer that comes `slow_seconds` late, whole."""
CONTENT = {"invalid_json", "max_tokens", "refusal", "wrong_count", "ungrounded", "negative"}
"""An answer that comes, is billed, and is of no use; or says no to all (`negative`)."""
IN_BATCH = {"batch_errored", "batch_expired", "batch_refused"}
"""What becomes of a single request of a batch."""
TRANSPORT = {*REFUSED, *LOST_BEFORE, *LOST_AFTER, *SLOW}
FAULTS = {*TRANSPORT, *CONTENT, *IN_BATCH}


def named(name: str) -> str:
    """The name, if there is such a fault or it is empty."""
    if name and name not in FAULTS:
        raise ValueError(f"no such fault: {name}")
    return name


def draw(rates: dict[str, float], allowed: set[str], seed: int, key: str, attempt: int) -> str:
    """The fault of this attempt, or an empty string."""
    at = digest_of(seed, key, attempt) / 2**64
    for name, rate in sorted(rates.items()):
        if named(name) in allowed:
            if at < rate:
                return name
            at -= rate
    return ""


def refuse(fault: str, retry_after: float) -> None:
    """Raises what a fault of `REFUSED` answers."""
    if fault in REFUSED:
        status, message = REFUSED[fault]
        raise ApiError(status, message, retry_after if status == 429 else None)


def spoil(value: Any, fault: str) -> Any:
    """An answer of the wrong count, with evidence that stands nowhere, or that says no to all."""
    if fault == "wrong_count":
        return _each(value, lambda key, inner: inner[:-1] if isinstance(inner, list) else inner)
    if fault == "ungrounded":
        return _each(value, _invent)
    if fault == "negative":
        return _each(value, lambda key, inner: False if inner is True else inner)
    return value


def _invent(key: str, value: Any) -> Any:
    return f"As nobody ever wrote: {digest_of(value)}" if key == "evidence" else value


def _each(value: Any, change: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _each(inner, change, name) for name, inner in value.items()}
    if isinstance(value, list):
        value = [_each(inner, change) for inner in value]
    return change(key, value)
