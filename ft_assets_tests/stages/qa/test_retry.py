"""Retries: the three policies, and the waits that answers ask for."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count

import pytest

from ft_assets.errors import StageError
from ft_assets.stages.qa.retry import (
    BATCHES,
    MESSAGES,
    ONCE,
    QUESTIONS,
    Failure,
    Retry,
    again_after,
    retry_after,
    wait_until,
)


def waits(retry: Retry, failure: Failure, asked: float | None = None) -> list[float]:
    """The waits between all tries of a call that keeps failing."""
    found: list[float] = []
    for times in count(1):
        wait = retry.wait(failure, times, asked)
        if wait is None:
            break
        found.append(wait)
    return found


@pytest.mark.parametrize(
    ("retry", "failure", "expected"),
    [
        (BATCHES, "failed", [1, 2, 4, 8]),
        (BATCHES, "limited", [1, 2, 4, 8]),
        (BATCHES, "unknown", []),
        (QUESTIONS, "failed", [0.5, 1, 2, 4]),
        (ONCE, "failed", []),
    ],
)
def test_the_waits_double(retry: Retry, failure: Failure, expected: list[float]) -> None:
    assert waits(retry, failure) == expected


@pytest.mark.parametrize(("failure", "tries"), [("failed", 6), ("unknown", 3), ("limited", 50)])
def test_messages_that_failed_together_do_not_come_back_together(
    failure: Failure, tries: int
) -> None:
    found = waits(MESSAGES, failure)
    assert len(found) == tries - 1
    for times, wait in enumerate(found):
        most = min(30.0, 0.5 * 2**times)
        assert most / 2 <= wait <= most
    assert found != waits(MESSAGES, failure)


def test_a_wait_that_is_asked_for_counts_unless_it_is_too_long() -> None:
    assert waits(MESSAGES, "unknown", 7.0) == [7, 7]
    assert waits(BATCHES, "limited", 0.0) == [0, 0, 0, 0]
    assert waits(QUESTIONS, "failed", 1.5) == [1.5, 1.5, 2, 4]
    assert waits(QUESTIONS, "failed", 31.0) == []
    assert waits(MESSAGES, "limited", 901.0) == waits(BATCHES, "limited", 901.0) == []


@pytest.mark.parametrize(
    ("status", "again"),
    [(400, ""), (401, ""), (408, "later"), (409, "later"), (429, "limited"), (529, "later")],
)
def test_a_status_says_whether_to_try_again(status: int, again: str) -> None:
    assert again_after(status) == again


def test_a_wait_is_a_number_or_a_date() -> None:
    assert retry_after({}) is None
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "1.5"}) == 1.5
    assert retry_after({"retry-after": "-3"}) == 0
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert retry_after({"retry-after": then}) == pytest.approx(60, abs=2)


def test_a_moment_far_off_is_not_waited_for() -> None:
    assert wait_until(0.0) == 0
    assert wait_until(time.time() + 60) == pytest.approx(60, abs=1)
    with pytest.raises(StageError, match=r"allows no more requests until .* run again then"):
        wait_until(time.time() + 5000)
