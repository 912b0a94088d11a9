"""The house rules, enforced by tests. Each rule is a function of a folder, so that it can be tested."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import ft_assets
from ft_assets.config import Section, all_settings, declaration
from ft_assets.engine.asset_settings import READS
from ft_assets.engine.graph import GRAPH
from ft_assets.names import ASSET_NAMES

ROOT = Path(ft_assets.__file__).parent
PROJECT = ROOT.parent

LAYERS = [
    {"children", "errors", "extras", "files", "names", "manifest", "records", "config"},
    {"tables"},
    {"stages"},
    {"engine"},
    {"worker"},
    {"compute"},
    {"defs"},
    {"definitions"},
    {"web"},
    {"cli"},
]
"""Each room may import from its own layer and from those before it."""

WITH_DAGSTER = {"defs", "compute", "definitions", "web", "cli"}
"""The rooms that may import Dagster."""

HEAVY = [
    "pyarrow",
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "langchain",
    "llama_cpp",
]

SHARED_BY_STAGES = {
    *("job", "questions", "key_facts", "duplicates", "progress", "reasoning", "words"),
}
"""The files in `stages/` that do not belong to one asset."""


def modules(root: Path) -> dict[str, Path]:
    """The modules of a package by their dotted names."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(known: dict[str, Path], module: str) -> set[str]:
    """The modules of the package that a module imports, at module level or inside functions."""
    found = set()
    for node in ast.walk(_tree(known[module])):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in known else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name in known} - {module}


def circles(root: Path) -> list[list[str]]:
    """Modules that import each other, in a circle, as paths through the imports."""
    known = modules(root)
    done: set[str] = set()
    found: list[list[str]] = []

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
        elif module not in done:
            for other in sorted(imports(known, module)):
                visit(other, [*path, module])
            done.add(module)

    for module in known:
        visit(module, [])
    return found


def foreign_nouns(root: Path) -> list[str]:
    """Stages that import another asset's stage, and rooms of `stages/` that import any stage."""
    known = modules(root)
    nouns = {f"{root.name}.stages.{asset}" for asset in ASSET_NAMES}
    return [
        f"{module} imports {other}"
        for module in known
        if module.startswith(f"{root.name}.stages.")
        for other in imports(known, module) & nouns
    ]


_NAMED = re.compile(r"(?<![\w./<])((?:[\w.-]+/)*[\w-]+\.(?:py|md|toml|yaml|sh|png))\b")
_OTHERS_FILES = re.compile(
    r"(data/handbook/)?finetune\.yaml|dagster\.yaml|workspace\.yaml|convert_hf_to_gguf\.py|MODEL_CARD\.md|"
    r"watch_orphans\.py|\w+\.pdf"
)
"""Files that users, Dagster or llama.cpp have."""


def missing_files(project: Path, texts: dict[str, str]) -> list[str]:
    """The files that texts name and that are not there, with the text that names each."""
    there = {
        path.relative_to(project).as_posix()
        for folder in (
            "ft_assets",
            "ft_assets_tests",
            "benchmarks",
            "docs",
            "data",
            "scripts",
            ".ci",
        )
        for path in (project / folder).rglob("*")
    } | {path.name for path in project.iterdir()}
    ends = {name[at:] for name in there for at in _starts(name)}
    return [
        f"{where}: {name}"
        for where, text in texts.items()
        for name in _NAMED.findall(text)
        if name.removeprefix("../") not in ends and not _OTHERS_FILES.fullmatch(name)
    ]


def _starts(name: str) -> Iterator[int]:
    yield 0
    yield from (at + 1 for at, character in enumerate(name) if character == "/")


def _prose() -> dict[str, str]:
    """The pages of the documentation, and the docstrings of the package."""
    pages = [*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")]
    texts = {path.name: path.read_text() for path in pages if path.name != "CHANGELOG.md"}
    for module, path in modules(ROOT).items():
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef
        nodes = [node for node in ast.walk(_tree(path)) if isinstance(node, kinds)]
        texts[module] = "\n".join(ast.get_docstring(node) or "" for node in nodes)
    return texts


_STARTS = {
    *(f"subprocess.{name}" for name in ("Popen", "run", "call", "check_call", "check_output")),
    *(
        "os.system",
        "os.popen",
        "os.posix_spawn",
        "os.execvpe",
        "os.execv",
        "os.execve",
        "os.execvp",
    ),
}
_MAY_START = {
    "ft_assets.children",
    "ft_assets.web.keeper",  # what ends the web server, and Dagster's own processes
    "ft_assets.engine.doctor.isolation",  # programs of this machine that are asked for their version
    "ft_assets.engine.doctor.machine",
    "ft_assets.engine.doctor.programs",
}


def starters(path: Path) -> list[str]:
    """The calls in a module that start a process."""
    called = (node.func for node in ast.walk(_tree(path)) if isinstance(node, ast.Call))
    return sorted({ast.unparse(function) for function in called} & _STARTS)


def undeclared(section: type[Section]) -> list[str]:
    """The settings that do not declare who may set them."""
    found = []
    for key, field in all_settings(section):
        try:
            declaration(field)
        except ValueError:
            found.append(key)
    return found


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


MODULES = modules(ROOT)


def test_every_room_has_a_layer() -> None:
    assert {_room(module) for module in MODULES} - {"__init__"} == set().union(*LAYERS)


def test_the_top_of_the_package_is_small() -> None:
    assert len(list(ROOT.glob("*.py"))) <= 12


@pytest.mark.parametrize("module", [name for name in MODULES if name != "ft_assets"])
def test_imports_point_one_way(module: str) -> None:
    layer = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
    mine = layer[_room(module)]
    others = imports(MODULES, module) - {"ft_assets"}
    assert not [other for other in others if layer[_room(other)] > mine]


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(ROOT) == []


def test_a_circle_is_found(tmp_path: Path) -> None:
    stages = tmp_path / "pack" / "stages"
    stages.mkdir(parents=True)
    (stages / "one.py").write_text("from pack.stages import two\n")
    (stages / "two.py").write_text("def f():\n    from pack.stages.one import g\n")
    assert circles(tmp_path / "pack") == [["pack.stages.one", "pack.stages.two", "pack.stages.one"]]


def test_a_stage_imports_no_other_nouns_stage() -> None:
    assert foreign_nouns(ROOT) == []


def test_another_nouns_stage_is_found(tmp_path: Path) -> None:
    stages = tmp_path / "pack" / "stages"
    stages.mkdir(parents=True)
    (stages / "adapter.py").write_text("")
    (stages / "gguf.py").write_text("from pack.stages.adapter import load\n")
    assert foreign_nouns(tmp_path / "pack") == ["pack.stages.gguf imports pack.stages.adapter"]


def test_a_file_in_stages_is_a_noun_or_shared() -> None:
    flat = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
    assert flat == {*ASSET_NAMES} | SHARED_BY_STAGES


def test_files_that_are_named_are_there() -> None:
    assert missing_files(PROJECT, _prose()) == []


def test_a_file_that_is_not_there_is_found() -> None:
    texts = {"README.md": "see `stages/job.py`, docs/qa.md and `stages/jobs.py`"}
    assert missing_files(PROJECT, texts) == ["README.md: stages/jobs.py"]


def test_processes_are_started_in_one_place() -> None:
    found = {module for module, path in MODULES.items() if starters(path)}
    assert found <= _MAY_START


def test_a_module_that_starts_a_process_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import subprocess\nsubprocess.run(['true'])\n")
    assert starters(tmp_path / "a.py") == ["subprocess.run"]


def test_every_setting_says_whose_it_is() -> None:
    assert undeclared(import_module("ft_assets.config").FineTuneConfig) == []


def test_a_setting_that_names_no_owner_is_found() -> None:
    class Careless(Section):
        knob: int = 3

    assert undeclared(Careless) == ["knob"]


def test_every_asset_says_what_it_reads() -> None:
    assert READS.keys() == GRAPH.keys() == set(ASSET_NAMES)


@pytest.mark.parametrize("module", MODULES)
def test_dagster_stays_out_of_the_work(module: str) -> None:
    if _room(module) in WITH_DAGSTER:
        return
    names = {
        name.split(".")[0]
        for node in ast.walk(_tree(MODULES[module]))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert "dagster" not in names


def test_an_asset_has_a_file_of_its_name_in_assets_and_in_stages() -> None:
    made = {path.stem for path in (ROOT / "defs" / "assets").glob("*.py")} - {"__init__"}
    assert made == {*GRAPH, "corpus_files", "settings"}
    for asset in GRAPH:
        assert callable(import_module(f"ft_assets.stages.{asset}").build)


@pytest.mark.parametrize("module", ["ft_assets.definitions", "ft_assets.cli"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
