"""The journal of the ledger and the batch log: what is on disk after each kind of failure."""

import json
import os
from pathlib import Path

import pytest

from ft_assets.errors import StageError
from ft_assets.stages.qa.ledger.journal import Journal, Line


class Counted:
    """A journal of numbers, and the list of numbers that it applied."""

    def __init__(self, path: Path) -> None:
        self.numbers: list[int] = []
        self.offsets: list[int] = []
        self.journal = Journal(path, {"counted": self._counted}, "a number is lost").open()

    def _counted(self, line: Line, offset: int) -> None:
        self.numbers.append(line["number"])
        self.offsets.append(offset)

    def count(self, *numbers: int) -> None:
        self.journal.append("counted", *({"number": number} for number in numbers))


def on_disk(path: Path) -> list[int]:
    return [json.loads(line)["number"] for line in path.read_text().splitlines()]


def test_what_is_appended_is_taken_up_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "numbers.jsonl"
    counted = Counted(path)
    counted.count(1, 2)
    counted.count(3)
    assert counted.numbers == Counted(path).numbers == on_disk(path) == [1, 2, 3]
    lines = [counted.journal.read(offset) for offset in counted.offsets]
    assert [line["number"] for line in lines] == [1, 2, 3]


def test_a_torn_end_is_cut_off_when_the_journal_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "numbers.jsonl"
    Counted(path).count(1, 2)
    path.write_bytes(path.read_bytes()[:-5])
    counted = Counted(path)
    counted.count(3)
    assert counted.numbers == on_disk(path) == [1, 3]


@pytest.mark.parametrize(
    "line", ["{", "[]", "{}", '{"event": "bought"}', '{"event": "counted"}'], ids=str
)
def test_a_damaged_line_is_named_with_what_is_lost_by_it(tmp_path: Path, line: str) -> None:
    path = tmp_path / "numbers.jsonl"
    Counted(path).count(1)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(StageError, match=r"numbers\.jsonl:2 is damaged .*: a number is lost"):
        Counted(path)


def test_of_an_append_that_fails_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "numbers.jsonl"
    counted = Counted(path)
    counted.count(1)

    def failing(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(OSError, match="Input/output"):
            counted.count(2, 3)
    counted.count(4)
    assert counted.numbers == on_disk(path) == [1, 4]


def test_an_interrupt_while_events_are_taken_up_loses_none_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "numbers.jsonl"
    counted = Counted(path)

    def interrupted(line: Line, offset: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(counted.journal, "_take", interrupted)
        with pytest.raises(KeyboardInterrupt):
            counted.count(1)
    counted.count(2)
    assert on_disk(path) == [1, 2]
