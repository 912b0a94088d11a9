"""`init --recipe`: every recipe is a valid beginning, says what a person must know, and is in the wheel."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

import ft_assets
from ft_assets.cli.recipes import names, recipe
from ft_assets.config import FineTuneConfig, settings_below
from ft_assets.engine.settings_files import load_config
from ft_assets.names import SETTINGS_FILE
from ft_assets_tests.conftest import Corpus, RunCLI

EVERY = ["gemma3-4b", "llama3.1-8b", "mistral-7b", "mixtral-8x7b", "qwen3-8b", "smollm2"]
GATED = {"google", "meta-llama", "mistralai"}
"""Organisations whose models on the hub need an accepted licence and a token."""
ROOT = Path(ft_assets.__file__).parent.parent
WHEEL = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def test_the_recipes() -> None:
    assert names() == EVERY


@pytest.mark.parametrize("name", EVERY)
def test_init_with_a_recipe_sets_what_it_says_and_nothing_else(
    corpus: Corpus, cli: RunCLI, name: str
) -> None:
    assert cli("init", "ferry", "--recipe", name).returncode == 0
    (corpus.project.data / SETTINGS_FILE).unlink(missing_ok=True)
    config = load_config(corpus.project.data, "ferry")
    before = {
        section: settings_below(FineTuneConfig(), section)
        for section in FineTuneConfig.model_fields
    }
    changed = {
        key: value
        for section, values in before.items()
        for key, value in settings_below(config, section).items()
        if value != values[key]
    }
    assert changed == recipe(name).settings


@pytest.mark.parametrize("name", EVERY)
def test_a_recipe_says_what_a_person_must_know(corpus: Corpus, cli: RunCLI, name: str) -> None:
    cli("init", "ferry", "--recipe", name)
    text = (corpus.folder / SETTINGS_FILE).read_text()
    organisation, _, model = str(recipe(name).settings["model.base"]).partition("/")
    assert model
    assert "# Memory: training takes " in text
    assert ("HF_TOKEN" in text) == (organisation in GATED)
    assert not any(key.startswith("training.") for key in recipe(name).settings)  # the chooser's


def test_a_recipe_that_does_not_exist_lists_all_and_writes_nothing(
    corpus: Corpus, cli: RunCLI
) -> None:
    done = cli("init", "quay", "--recipe", "mistral")
    assert done.returncode == 1
    assert all(name in done.stderr for name in EVERY)
    assert "did you mean 'mistral-7b'?" in done.stderr
    assert not (corpus.project.data / "quay").exists()
    assert cli("init", "quay", "--recipe", "../../data/x").returncode == 1


def test_the_recipes_are_in_the_wheel(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "ft_assets", source / "ft_assets")
    command = [sys.executable, "-W", "ignore", "-c", WHEEL, str(tmp_path)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    [wheel] = tmp_path.glob("*.whl")
    inside = ZipFile(wheel).namelist()
    assert {f"ft_assets/recipes/{name}.yaml" for name in EVERY} <= set(inside)
