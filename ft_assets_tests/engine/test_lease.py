"""A lease has one holder at a time; a holder that lost it cannot publish."""

import threading
import time
from pathlib import Path

import pytest

from ft_assets.engine.lease import LostLeaseError, hold, holder


def never(run_id: str) -> bool:
    return False


def test_the_second_waits_for_the_first(tmp_path: Path) -> None:
    order = []
    waited_for: list[str] = []

    def second() -> None:
        with hold(tmp_path, "two", never, waited_for.append):
            order.append("two")

    with hold(tmp_path, "one", never):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.5)
        order.append("one")
    waiting.join()
    assert order == ["one", "two"]
    assert waited_for == ["one"]
    assert holder(tmp_path) is None


def test_a_run_that_is_over_is_passed_by_and_cannot_publish(tmp_path: Path) -> None:
    with hold(tmp_path, "old", never) as old:
        with hold(tmp_path, "new", lambda run_id: run_id == "old") as new:
            with pytest.raises(LostLeaseError, match="run old was given up"), old.publishing():
                raise AssertionError("it published")
            with new.publishing():
                pass
        with pytest.raises(LostLeaseError), old.publishing():
            raise AssertionError("it published once the other had gone")
    assert [path.name for path in tmp_path.iterdir()] == [".guard"]


def test_an_error_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no luck"), hold(tmp_path, "one", never):
        raise ValueError("no luck")
    with hold(tmp_path, "two", never):
        assert holder(tmp_path)
