"""Contract tests: Dagster's connections are kept while it is asked to, and only then."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from alembic.script import ScriptDirectory
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from sqlalchemy import event
from sqlalchemy.engine import Engine

from ft_assets.defs.internals_storage import kept_connections

_YAML = "telemetry: {enabled: false}\n"
_READ = (
    "import dagster as dg\n"
    "with dg.DagsterInstance.get() as instance:\n"
    "    print(len(instance.fetch_materializations(dg.AssetKey('goat'), limit=99).records))\n"
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "dagster.yaml").write_text(_YAML)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return tmp_path


@dg.asset
def goat() -> int:
    return 1


def _connections() -> int:
    """How many connections SQLAlchemy opens while Dagster runs a job."""
    opened: list[object] = []

    def note(*of: object) -> None:
        opened.append(of)

    event.listen(Engine, "connect", note)
    try:
        with dg.DagsterInstance.get() as instance:
            assert dg.materialize([goat], instance=instance).success
    finally:
        event.remove(Engine, "connect", note)
    return len(opened)


@pytest.mark.usefixtures("home")
def test_a_run_takes_a_connection_for_each_file() -> None:
    without = _connections()
    with kept_connections():
        kept = _connections()
    assert kept < without / 4, (kept, without)


def test_other_processes_see_and_write_meanwhile(home: Path) -> None:
    with kept_connections(), dg.DagsterInstance.get() as instance:
        assert dg.materialize([goat], instance=instance).success
        done = subprocess.run([sys.executable, "-c", _READ], capture_output=True, text=True)
        assert done.stdout.split() == ["1"]
        write = f"{_READ}    instance.report_runless_asset_event(dg.AssetMaterialization('goat'))\n"
        subprocess.run([sys.executable, "-c", write], check=True, capture_output=True)
        assert len(instance.fetch_materializations(dg.AssetKey("goat"), limit=99).records) == 2
    assert not list(home.rglob("*.db-wal"))  # all are closed


def test_afterwards_dagster_is_as_it_was() -> None:
    def replaced() -> list[object]:
        modules = (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage)
        return [*(vars(each)["create_engine"] for each in modules), ScriptDirectory.from_config]

    before = replaced()
    with kept_connections():
        assert not any(one == other for one, other in zip(before, replaced(), strict=True))
    assert replaced() == before
