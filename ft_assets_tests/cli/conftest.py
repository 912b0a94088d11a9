"""Runs verbs in this process: for those that start nothing."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from ft_assets.cli import main
from ft_assets.engine.project import Project

RunVerb = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def verb(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> RunVerb:
    """Runs `ft-assets` as the `cli` fixture does, but in this process, which takes milliseconds."""
    for name, value in {
        "FT_ASSETS_DATA": str(project.data),
        "FT_ASSETS_STORAGE": str(project.storage.root),
        "COLUMNS": "200",
        "NO_COLOR": "1",
    }.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["ft-assets", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return subprocess.CompletedProcess(arguments, int(code or 0), *capsys.readouterr())

    return run
