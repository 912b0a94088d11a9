"""Contract tests: what a step prints reaches the terminal to its last line, with no process for it."""

import subprocess
import sys
from pathlib import Path

import pytest
from dagster._core.execution import compute_logs

from ft_assets.defs.internals_logs import mirrored_by_threads

_RUN = """
import os, subprocess, sys
import dagster as dg
from ft_assets.defs.internals_logs import mirrored_by_threads

started = []
popen = subprocess.Popen
subprocess.Popen = lambda *of, **more: started.append(of) or popen(*of, **more)

@dg.asset
def goat() -> None:
    print("says Biscuit")
    os.write(2, b"says the captain\\n")
    print("x" * 100_000 + "the last", flush=True)

with mirrored_by_threads(), dg.DagsterInstance.get() as instance:
    result = dg.materialize([goat], instance=instance)
print("started", started)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return tmp_path


def test_all_that_a_step_prints_is_shown_and_kept(home: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _RUN], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "says Biscuit"
    assert done.stdout.count("x") >= 100_000
    assert "xthe last\n" in done.stdout
    assert done.stdout.splitlines()[-1] == "started []"
    assert "says the captain" in done.stderr
    kept = {path.suffix: path.read_text() for path in home.rglob("compute_logs/*.*")}
    assert kept[".out"].endswith("xthe last\n")
    assert "says the captain" in kept[".err"]


def test_afterwards_dagster_is_as_it_was() -> None:
    before = compute_logs.tail_to_stream
    with mirrored_by_threads():
        assert compute_logs.tail_to_stream is not before
    assert compute_logs.tail_to_stream is before
