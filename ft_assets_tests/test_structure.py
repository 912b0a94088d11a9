"""The rules of the house, kept by test."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import ft_assets
from ft_assets.freshness import GRAPH

ROOT = Path(ft_assets.__file__).parent

LAYERS = [
    {"errors", "records", "config"},
    {"tables"},
    {"stages", "settings_file"},
    {"freshness"},
    {"worker"},
    {"resources", "compute", "instance", "partitions", "dagster_internals", "pictures"},
    {"lineage", "qa", "upkeep", "runs", "progress", "side_by_side"},
    {"assets", "checks", "sensors", "batch_sensor", "chat"},
    {"definitions"},
    {"refresh"},
    {"cli"},
]
"""Each room may import from its own layer and from those before it."""

HEAVY = [
    "pyarrow",
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "langchain",
    "llama_cpp",
    "matplotlib",
]


def _room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """The rooms of ft_assets that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ft_assets."):
            found.add((node.module or "").split(".")[1])
    return found


FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def test_every_room_has_a_layer() -> None:
    assert {_room(path) for path in FILES} == set().union(*LAYERS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    layer = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
    mine = layer[_room(path)]
    assert not [room for room in _imports(path) if layer[room] > mine]


@pytest.mark.parametrize(
    "room", ["stages", "resources", "lineage", "upkeep", "freshness", "config", "records", "tables"]
)
def test_dagster_stays_out_of_the_work(room: str) -> None:
    for path in FILES:
        if _room(path) == room:
            names = {
                alias.name.split(".")[0]
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Import)
                for alias in node.names
            }
            assert "dagster" not in names, path


def test_an_asset_has_a_file_of_its_name_in_assets_and_in_stages() -> None:
    made = {path.stem for path in (ROOT / "assets").glob("*.py")} - {"__init__"}
    assert made == {*GRAPH, "corpus_files", "settings"}
    for asset in GRAPH:
        assert callable(import_module(f"ft_assets.stages.{asset}").build)


@pytest.mark.parametrize("module", ["ft_assets.definitions", "ft_assets.cli"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
