"""Progress is said at once, then every few seconds, however many steps there are, and at the end."""

from itertools import pairwise

import pytest

from ft_assets.stages.progress import Throttled, counting


@pytest.mark.parametrize(
    ("hours", "step_seconds", "most"), [(0.05, 0.1, 40), (0.5, 1.0, 250), (8.0, 2.0, 1_200)]
)
def test_a_long_work_has_not_too_many_lines(hours: float, step_seconds: float, most: int) -> None:
    said: list[float] = []
    now = 100.0
    say = Throttled(lambda line: said.append(float(line)), lambda: now)
    end = now + 3_600 * hours
    say("100.0")
    while now < end:
        now += step_seconds
        say(str(now))
    say(str(now), always=True)
    gaps = [after - before for before, after in pairwise(said)]
    assert said[0] == 100.0
    assert said[-1] == now
    assert len(said) <= most
    assert max(gaps) <= 30 + step_seconds
    assert max(gaps[:50]) <= 10


def test_answers_are_counted_while_they_come() -> None:
    said: list[str] = []
    items = counting(iter("abcd"), 4, "questions answered", said.append)
    assert next(items) == "a"
    assert said == ["1 of 4 questions answered"]
    assert list(items) == ["b", "c", "d"]
    assert said == ["1 of 4 questions answered", "4 of 4 questions answered"]
