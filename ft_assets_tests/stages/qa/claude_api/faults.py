"""Faults of answers, by name, drawn from a seed.

A draw depends on the seed, the request and its attempt, not on the order in which threads run.
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
"""Answered with an error before an answer is created: not billed."""
LOST_BEFORE = {"closed_before", "timeout_before"}
"""The connection closes before an answer is created, at once or after `slow_seconds`: not billed."""
LOST_AFTER = {"closed_after", "timeout_after", "half_answer"}
"""An answer is created and billed, but lost; the last one halfway."""
SLOW = {"slow"}
"""A complete answer that is `slow_seconds` late."""
CONTENT = {"invalid_json", "max_tokens", "refusal", "wrong_count", "ungrounded", "negative"}
"""An answer that is delivered and billed, but unusable; or that rejects all pairs (`negative`)."""
IN_BATCH = {"batch_errored", "batch_expired", "batch_refused"}
"""Outcomes of a single request of a batch."""
TRANSPORT = {*REFUSED, *LOST_BEFORE, *LOST_AFTER, *SLOW}
FAULTS = {*TRANSPORT, *CONTENT, *IN_BATCH}


def named(name: str) -> str:
    """Returns the name if it is a fault or empty."""
    if name and name not in FAULTS:
        raise ValueError(f"no such fault: {name}")
    return name


def draw(rates: dict[str, float], allowed: set[str], seed: int, key: str, attempt: int) -> str:
    """The fault of this attempt; "" if there is none."""
    at = digest_of(seed, key, attempt) / 2**64
    for name, rate in sorted(rates.items()):
        if named(name) in allowed:
            if at < rate:
                return name
            at -= rate
    return ""


def refuse(fault: str, retry_after: float) -> None:
    """Raises the error of a fault in `REFUSED`."""
    if fault in REFUSED:
        status, message = REFUSED[fault]
        raise ApiError(status, message, retry_after if status == 429 else None)


def spoil(value: Any, fault: str) -> Any:
    """An answer with a wrong count, with evidence that is not in the source, or that rejects all."""
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
