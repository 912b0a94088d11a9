"""`docs/settings.md` matches the settings classes."""

from pathlib import Path

import ft_assets
from ft_assets.cli.settings_page import page
from ft_assets.config import all_settings

PAGE = Path(ft_assets.__file__).parent.parent / "docs" / "settings.md"


def test_the_page_is_current() -> None:
    command = "python -m ft_assets.cli.settings_page > docs/settings.md"
    assert PAGE.read_text() == page(), f"run: {command}"


def test_every_setting_has_a_row() -> None:
    rows = [line.split(" | ")[0] for line in page().splitlines() if line.startswith("| `")]
    assert rows == [f"| `{key}`" for key, _ in all_settings()]


def test_a_row_says_whose_it_is_what_it_does_and_who_reads_it() -> None:
    lines = page().splitlines()
    assert (
        "| `model.lora.r` | `16` | at least 1, at most 256 | corpus | shapes | `adapter` |" in lines
    )
    [prices] = [line for line in lines if line.startswith("| `qa.prices` ")]
    assert prices.endswith("| owner | means | `qa_pairs`, `evaluation` |")
    [base] = [line for line in lines if line.startswith("| `model.base` ")]
    assert "`chunks` (if `langchain.splitter` is `token`)" in base
