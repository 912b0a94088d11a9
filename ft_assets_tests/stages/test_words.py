"""Numbers in words."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets.engine.reasons import grouped
from ft_assets.stages.words import counted, files_read, listed, size_of, time_of


def test_one_is_no_plural() -> None:
    assert counted(1, "file") == "1 file"
    assert counted(0, "file") == "0 files"
    assert counted(1200, "corpus", "corpora") == "1,200 corpora"


@pytest.mark.parametrize(
    ("count", "says"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1_000, "1.0 kB"),
        (4_249, "4.2 kB"),
        (999_960, "1.0 MB"),
        (2_000_000_000, "2.0 GB"),
        (3_000_000_000_000_000, "3000.0 TB"),
    ],
)
def test_a_size_is_said_in_a_unit_that_fits(count: int, says: str) -> None:
    assert size_of(count) == says


@pytest.mark.parametrize(
    ("seconds", "says"),
    [(0.4, "0 s"), (99, "99 s"), (101, "2 min"), (3_599, "1 h 0 min"), (360_000, "100 h 0 min")],
)
def test_a_time_is_said_in_units_that_fit(seconds: float, says: str) -> None:
    assert time_of(seconds) == says


def test_of_many_names_the_first_are_listed() -> None:
    assert listed(["a", "b"], 3) == "a, b"
    assert listed(["a", "b", "c", "d"], 3) == "a, b, c and 1 more"


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ((1, 0, 0), "1 file read"),
        ((4, 0, 2), "4 of 6 files read, 2 left out"),
        ((4, 1, 2), "4 of 6 files read (1 in part), 2 left out"),
        ((0, 0, 1), "0 of 1 file read, 1 left out"),
    ],
)
def test_files_that_were_read(counts: tuple[int, int, int], says: str) -> None:
    assert files_read(*counts) == says


@given(st.lists(st.sampled_from(["no answer", "keys: a: b", "not JSON (line 3)"]), max_size=30))
def test_equal_reasons_become_one_and_none_is_lost(messages: list[str]) -> None:
    found = grouped(f"line {at}, record {at}: {said}" for at, said in enumerate(messages, start=1))
    assert {each.message: each.count for each in found} == Counter(messages)
    assert [each.count for each in found] == sorted((each.count for each in found), reverse=True)
    for each in found:
        assert (
            each.first
            == f"line {messages.index(each.message) + 1}, record {messages.index(each.message) + 1}"
        )


def test_a_reason_without_a_place_stays_as_it_is() -> None:
    [found] = grouped(["it is encrypted: give its password"])
    assert str(found) == "it is encrypted: give its password"
