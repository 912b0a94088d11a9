"""A stage whose code changed has a new code version, or a person confirmed that it needs none.

After a change that alters a stage's output, bump its `code_version` in `engine/graph.py`. Then, and after
a change that does not, run `python -m ft_assets_tests.test_code_versions` to rewrite the record.
"""

import ast
import hashlib
import json
from functools import cache
from pathlib import Path

import pytest

import ft_assets
from ft_assets.engine.graph import GRAPH

ROOT = Path(ft_assets.__file__).parent
RECORD = Path(__file__).parent / "code_versions.json"


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """Removes the docstrings; a syntax tree has no comments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [
                item
                for item in node.body
                if not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))
            ] or [ast.Pass()]
    return tree


def _file(module: str) -> Path:
    path = ROOT.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _imports(module: str) -> frozenset[str]:
    """The modules that a module imports and that do a stage's work: stages, records and tables."""
    found = {
        node.module
        for node in ast.walk(ast.parse(_file(module).read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
    }
    return frozenset(
        name
        for name in found
        if name in ("ft_assets.records", "ft_assets.tables") or name.startswith("ft_assets.stages.")
    )


def _work_of(asset: str) -> set[str]:
    """The modules that do an asset's work."""
    found: set[str] = set()
    waiting = [f"ft_assets.stages.{asset}"]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += _imports(module)
    return found


def digest(asset: str) -> str:
    """A digest of the code that does an asset's work."""
    code = [
        ast.dump(_without_docstrings(ast.parse(_file(module).read_text())))
        for module in sorted(_work_of(asset))
    ]
    return hashlib.sha256("\n".join(code).encode()).hexdigest()[:16]


def record() -> dict[str, dict[str, str]]:
    return {
        asset: {"code_version": node.code_version, "digest": digest(asset)}
        for asset, node in GRAPH.items()
    }


@pytest.mark.parametrize("asset", GRAPH)
def test_changed_code_has_a_new_code_version(asset: str) -> None:
    known = json.loads(RECORD.read_text())[asset]
    assert {"code_version": GRAPH[asset].code_version, "digest": digest(asset)} == known, (
        f"the code of {asset} changed: bump its code_version in engine/graph.py if its output changes, "
        "then run python -m ft_assets_tests.test_code_versions"
    )


if __name__ == "__main__":
    RECORD.write_text(json.dumps(record(), indent=1) + "\n")
