"""Numbers in words."""

import pytest

from ft_assets.engine.words import counted, listed, size_of


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


def test_of_many_names_the_first_are_listed() -> None:
    assert listed(["a", "b"], 3) == "a, b"
    assert listed(["a", "b", "c", "d"], 3) == "a, b, c and 1 more"
