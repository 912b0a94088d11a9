"""`docs/commands.md` matches the command line's help."""

import re
from pathlib import Path

import ft_assets
from ft_assets.cli import EXIT_CODES
from ft_assets.cli.commands_page import page
from ft_assets.errors import INTERRUPTED, WAITING
from ft_assets_tests.conftest import RunCLI

PAGE = Path(ft_assets.__file__).parent.parent / "docs" / "commands.md"


def test_the_page_is_current() -> None:
    command = "python -m ft_assets.cli.commands_page > docs/commands.md"
    assert PAGE.read_text() == page(), f"run: {command}"


def test_every_verb_of_the_help_has_a_section(cli: RunCLI) -> None:
    commands = cli("--help", COLUMNS="200").stdout.partition("Commands")[2].splitlines()
    verbs = {words[1] for line in commands if len(words := line.split()) > 2 and words[0] == "│"}
    sections = {line.split()[1] for line in page().splitlines() if line.startswith("## ")}
    assert {"refresh", "qa", "ui"} <= verbs
    assert verbs <= sections


def test_a_row_says_what_an_option_takes_its_default_and_its_meaning() -> None:
    lines = page().splitlines()
    assert "| `--jobs, -j` | a number, at least 1 | `1` | Corpora to refresh at once. |" in lines
    assert "$ ft-assets qa export CORPUS FILE" in lines
    assert any(
        line.startswith("| `--until` | `ASSET` | `gguf` | Build up to this asset: raw_documents,")
        for line in lines
    )


def test_every_exit_code_is_explained() -> None:
    assert {WAITING, INTERRUPTED} < EXIT_CODES.keys()
    assert all(f"| {code} | " in page() for code in EXIT_CODES)


def test_no_word_of_the_help_is_taken_for_markup() -> None:
    prose = re.sub(r"```.*?```|`[^`]*`", "", page(), flags=re.DOTALL)
    assert re.findall(r"\[/?[a-z]+\]", prose) == []
