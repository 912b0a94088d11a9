"""`ft-assets doctor` as a user runs it."""

import json

from ft_assets_tests.conftest import RunCLI


def test_the_report_is_printed_and_nothing_secret_in_it(cli: RunCLI) -> None:
    done = cli("doctor", ANTHROPIC_API_KEY="sk-canary")
    assert done.returncode == 0, done.stderr
    for part in ("Python", "isolation", "file locks", "ANTHROPIC_API_KEY"):
        assert part in done.stdout
    assert "canary" not in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith(
        ("everything needed is there", "the project works")
    )


def test_the_report_as_json(cli: RunCLI) -> None:
    done = cli("doctor", "--json")
    told = json.loads(done.stdout)
    assert told["enough"] is True
    assert {"name", "state", "found", "cost", "essential"} == told["lines"][0].keys()


def test_a_storage_that_cannot_be_written_is_too_little(cli: RunCLI) -> None:
    done = cli("doctor", "--json", FT_ASSETS_STORAGE="/proc/storage")
    assert done.returncode == 1
    [line] = [line for line in json.loads(done.stdout)["lines"] if line["name"] == "storage"]
    assert line["state"] == "missing"
    assert "FT_ASSETS_STORAGE" in line["cost"]
