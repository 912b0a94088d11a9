"""The command line starts fast: what imports load; and every file of a verb is used."""

import subprocess
import sys
from pathlib import Path

from ft_assets.cli import app, verbs

_TYPERS_OWN = {"annotated_doc", "shellingham"}


def _loaded_by(statement: str) -> set[str]:
    """The packages outside the standard library that a statement loads in a new process."""
    code = (
        "import sys\nbefore = set(sys.modules)\n"
        f"{statement}\n"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before}"
        " - sys.stdlib_module_names)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_until_a_verb_runs_only_typer_and_rich_are_loaded() -> None:
    assert _loaded_by("import ft_assets.cli") - _TYPERS_OWN == {"ft_assets", "typer", "rich"}


def test_of_this_project_only_the_command_line_and_names_are_loaded() -> None:
    code = (
        "import sys, ft_assets.cli; print(*(m for m in sys.modules if m.startswith('ft_assets.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rest = {name for name in done.stdout.split() if not name.startswith("ft_assets.cli")}
    assert rest == {"ft_assets.errors", "ft_assets.files", "ft_assets.names"}


def test_every_file_of_a_verb_is_in_the_list() -> None:
    files = {path.stem for path in Path(verbs.__path__[0]).glob("*.py")} - {"__init__"}
    added = {group.typer_instance for group in app.registered_groups}
    assert {name for name in files if getattr(verbs, name).verbs in added} == files
