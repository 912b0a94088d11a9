"""What `make setup` prepares for Dagster's own tools."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dotenv import dotenv_values

import ft_assets
from ft_assets.defs.instance import dagster_home
from ft_assets.defs.setup import main, register_corpora, write_env_file
from ft_assets_tests.conftest import PROSE, Corpus


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "a home"))
    return dagster_home()


def _partitions() -> list[str]:
    with dg.DagsterInstance.get() as instance:
        return sorted(instance.get_dynamic_partitions("corpus"))


def test_corpora_are_registered_once(corpus: Corpus, home: Path) -> None:
    assert register_corpora(corpus.project) == ["ferry"]
    assert register_corpora(corpus.project) == []
    Corpus(corpus.project, "second").write("a.txt", PROSE)
    assert register_corpora(corpus.project) == ["second"]
    assert _partitions() == ["ferry", "second"]


def test_the_env_file_names_the_home_in_full(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_env_file(tmp_path, home)
    monkeypatch.delenv("DAGSTER_HOME")
    assert dotenv_values(tmp_path / ".env") == {"DAGSTER_HOME": str(home)}
    assert home.is_absolute()


def test_the_env_file_does_not_override_the_environment(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster's tools allow this, so the file itself checks the environment first."""
    write_env_file(tmp_path, home)
    monkeypatch.setenv("DAGSTER_HOME", "/elsewhere")
    assert dotenv_values(tmp_path / ".env") == {"DAGSTER_HOME": "/elsewhere"}


def test_an_env_file_that_exists_is_kept(
    corpus: Corpus, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FT_ASSETS_DATA", str(corpus.project.data))
    (tmp_path / ".env").write_text("HF_TOKEN=mine\n")
    main()
    assert (tmp_path / ".env").read_text() == "HF_TOKEN=mine\n"
    assert _partitions() == ["ferry"]


def test_the_instance_sends_nothing_home_and_shows_no_newsletter_box(home: Path) -> None:
    with dg.DagsterInstance.get() as instance:
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled


@pytest.mark.slow
def test_dg_finds_the_project_and_launches_an_asset(
    corpus: Corpus, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FT_ASSETS_DATA", str(corpus.project.data))
    monkeypatch.setenv("FT_ASSETS_STORAGE", str(corpus.project.storage.root))
    monkeypatch.setenv("HOME", str(home.parent / "person"))
    register_corpora(corpus.project)
    assert "raw_documents" in _dg("list", "defs", "--json")
    assert "loaded successfully" in _dg("check", "defs")
    _dg("launch", "--assets", "raw_documents", "--partition", "ferry")
    assert corpus.project.status("ferry")["raw_documents"].state == "fresh"
    assert not (home.parent / "person").exists()  # neither telemetry nor settings of its own


def _dg(*arguments: str) -> str:
    command = [str(Path(sys.executable).parent / "dg"), *arguments]
    done = subprocess.run(
        command, cwd=Path(ft_assets.__file__).parent.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
