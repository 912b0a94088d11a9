"""How often the tests kill processes: at ten seeded points, or at all of them (`make test-kills`)."""

import os
import random

EVERY_KILL = os.environ.get("FT_ASSETS_TEST_KILLS") == "all"
SAMPLE = 10


def chosen(points: int, seed: str) -> list[int]:
    """The points, counted from 1, at which a process is killed; the same seed gives the same points."""
    numbers = range(1, points + 1)
    if EVERY_KILL or points <= SAMPLE:
        return list(numbers)
    return sorted(random.Random(seed).sample(numbers, SAMPLE))
