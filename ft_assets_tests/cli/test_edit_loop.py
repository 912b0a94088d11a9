"""What the edit loop loads: refreshing a corpus up to its dataset, at first and after an edit."""

import textwrap
from pathlib import Path

import pytest

from ft_assets_tests.conftest import PROSE, Corpus, RunCLI, own_cache

HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "accelerate", "sympy", "pandas"}
_LOGGED = textwrap.dedent(
    """
    import os, sys

    class Log:
        def find_spec(name, *more):
            with open({log!r}, "a") as file:
                file.write(f"{{os.getpid()}} {{name}}\\n")

    sys.meta_path.insert(0, Log)
    """
)


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which each process notes what it imports, and an empty cache."""
    log = tmp_path / "imported"
    (tmp_path / "noting").mkdir()
    (tmp_path / "noting" / "sitecustomize.py").write_text(_LOGGED.format(log=str(log)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "noting"), prepend=":")
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_cache(tmp_path / "cache")))
    return log


def _by_process(log: Path) -> dict[str, set[str]]:
    """The packages that each process imported since the last time."""
    found: dict[str, set[str]] = {}
    for line in log.read_text().splitlines():
        process, name = line.split()
        found.setdefault(process, set()).add(name.split(".")[0])
    log.unlink()
    return found


def test_only_the_first_build_imports_transformers_and_nothing_imports_torch(
    corpus: Corpus, pico_model: Path, cli: RunCLI, imported: Path
) -> None:
    corpus.settings(f"model: {{base: {pico_model}}}")
    refresh = ("refresh", corpus.name, "--until", "formatted_dataset")
    first = cli(*refresh)
    assert first.returncode == 0, first.stderr
    loading = [names & HEAVY for names in _by_process(imported).values() if names & HEAVY]
    assert loading == [{"transformers"}]
    corpus.write("ferry.txt", f"{PROSE}\n\nThe goat has a new bell.")
    edited = cli(*refresh)
    assert "formatted_dataset" in edited.stdout, edited.stderr
    found = _by_process(imported)
    assert not set().union(*found.values()) & HEAVY
    for of in ({"dagster", "tokenizers", "pyarrow"}, {"py3langid", "pyarrow"}, {"jinja2"}):
        assert any(of <= names for names in found.values()), of  # it noted all processes
