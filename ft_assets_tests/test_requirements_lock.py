"""The locks that `make setup` installs match the versions that were tested together."""

import re
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.tags import parse_tag
from packaging.utils import canonicalize_name

from ft_assets.errors import UserError
from ft_assets.extras import EXTRAS, require
from ft_assets.stages.models.pinned_packages import PINS
from scripts.lock import CUDA_LOCK, LOCK, is_cuda, pinned, read_lock, serves, write_lock

_LINE = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+( --hash=sha256:[0-9a-f]{64})+")


def test_the_locks_have_the_versions_of_the_constraints_and_nothing_else() -> None:
    assert list(read_lock(LOCK)) == [pin for pin in pinned() if not is_cuda(pin)]
    assert list(read_lock(CUDA_LOCK)) == [pin for pin in pinned() if is_cuda(pin)]


@pytest.mark.parametrize("path", [LOCK, CUDA_LOCK], ids=lambda path: path.name)
def test_a_lock_holds_versions_and_hashes_and_no_address(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("#")
    assert [line for line in lines[1:] if not _LINE.fullmatch(line)] == []


def test_everything_that_the_project_asks_for_is_locked() -> None:
    locked = {canonicalize_name(pin.partition("==")[0]) for pin in read_lock(LOCK)}
    asked = {canonicalize_name(Requirement(line).name) for line in requires("ft-assets") or []}
    build = {"setuptools", "wheel", "scikit-build-core", "cmake", "ninja"}
    assert sorted((asked | build) - locked - {"ft-assets"}) == []


def test_all_extras_together_are_what_users_of_the_project_named() -> None:
    named = "dagster dagster-webserver langchain pypdf docx2txt anthropic transformers datasets peft trl"
    named += " bitsandbytes torch pyarrow pyyaml llama-cpp-python"
    assert set(named.split()) <= _installed_with("all")


def test_the_base_install_brings_no_torch() -> None:
    base = _installed_with("")
    assert base >= {"dagster", "transformers", "tokenizers", "pyarrow"}
    assert not base & {canonicalize_name(name) for names in EXTRAS.values() for name in names}


def test_each_extra_brings_the_modules_that_are_looked_for() -> None:
    modules = {"llama-cpp-python": "llama_cpp", "mlflow-skinny": "mlflow"}
    for extra, looked_for in EXTRAS.items():
        brought = _installed_with(extra) - _installed_with("")
        names = {modules.get(name, name.replace("-", "_")) for name in brought}
        assert set(looked_for) <= names


def _installed_with(extra: str) -> set[str]:
    """The packages that the project requires with one of its extras."""
    found: set[str] = set()
    for line in requires("ft-assets") or []:
        asked = Requirement(line)
        if asked.marker is None or asked.marker.evaluate({"extra": extra}):
            inner = [name for each in asked.extras for name in _installed_with(each)]
            found |= set(inner) if asked.name == "ft-assets" else {canonicalize_name(asked.name)}
    return found


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_that_is_missing_is_named_with_its_command(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(extra, "this")
    monkeypatch.setitem(EXTRAS, extra, ("no_such_module",))
    with pytest.raises(UserError, match=re.escape(f"pip install -c constraints.txt '.[{extra}]'")):
        require(extra, "this")


def test_the_source_that_is_compiled_is_the_one_whose_converter_is_used() -> None:
    pin = PINS["llama-cpp-python"]
    assert read_lock(LOCK)[f"llama_cpp_python=={pin.version}"] == {pin.sha256}


def test_hashes_stay_for_a_version_and_go_with_it(tmp_path: Path) -> None:
    path = tmp_path / "some.lock"
    write_lock(path, ["a==1", "b==1"], {"a==1": {"aa"}, "b==1": {"bb"}})
    write_lock(path, ["a==1", "b==2"], {"a==1": {"cc"}, "b==2": {"dd"}})
    assert read_lock(path) == {"a==1": {"aa", "cc"}, "b==2": {"dd"}}


@pytest.mark.parametrize(
    ("tag", "wanted"),
    [
        ("py3-none-any", True),
        ("py2-none-any", False),
        ("cp311-cp311-manylinux_2_28_x86_64", True),
        ("cp313-cp313-macosx_14_0_arm64", True),
        ("cp313-cp313t-macosx_14_0_arm64", False),
        ("cp310-cp310-manylinux_2_28_x86_64", False),
        ("cp38-abi3-manylinux2014_aarch64", True),
        ("cp314-abi3-manylinux2014_aarch64", False),
        ("cp311-cp311-musllinux_1_2_x86_64", False),
        ("cp311-cp311-win_amd64", False),
        ("pp311-pypy311_pp73-manylinux_2_28_x86_64", False),
    ],
)
def test_wheels_for_other_machines_are_left_out(tag: str, wanted: bool) -> None:
    assert any(serves(one) for one in parse_tag(tag)) == wanted
