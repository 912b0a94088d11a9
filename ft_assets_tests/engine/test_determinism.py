"""The same inputs give the same dataset bytes in any environment."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ft_assets.engine.project import Project
from ft_assets_tests.conftest import PROSE, Corpus, qa_records, write_docx, write_pdf

pytestmark = pytest.mark.slow

BUILD = """
import os, sys
from pathlib import Path
if os.environ.get("CORES") == "1":  # one process parses, in place of several
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from ft_assets.engine.graph import upstream
from ft_assets.engine.project import Project

project = Project(Path(sys.argv[1]), Path(sys.argv[2]))
for asset in [*upstream("formatted_dataset"), "formatted_dataset"]:
    print(asset, project.make("ferry", asset).manifest.version)
"""

ENVIRONMENTS: list[dict[str, str]] = [
    {"PYTHONHASHSEED": "0"},
    {"PYTHONHASHSEED": "1", "TZ": "Asia/Kathmandu"},
    {"PYTHONHASHSEED": "2", "LC_ALL": "C"},
    {"PYTHONHASHSEED": "3", "LC_ALL": "C.UTF-8", "TZ": "America/St_Johns"},
    {"PYTHONHASHSEED": "4", "PYTHONUTF8": "1"},
    {"PYTHONHASHSEED": "5", "CORES": "1"},
    {"PYTHONHASHSEED": "6", "PYTHONDEVMODE": "1"},
    {"PYTHONHASHSEED": "7", "TOKENIZERS_PARALLELISM": "false"},
    {"PYTHONHASHSEED": "8", "OMP_NUM_THREADS": "1"},
    {"PYTHONHASHSEED": "9", "PYTHONOPTIMIZE": "1"},
]


def _write(root: Path, base: Path, order: int) -> None:
    """The same corpus, with files created in a different order each time, so that listings differ."""
    corpus = Corpus(Project(root / "data", root / "storage"), "ferry")
    corpus.folder.mkdir(parents=True)
    writers: list[Callable[[], object]] = [
        lambda: corpus.write("ferry.txt", PROSE),
        lambda: corpus.write("b/deeper.md", f"# The ferry\n\n{PROSE}\n\n## Fares\n\nButtons only."),
        lambda: corpus.write("crates.json", json.dumps(qa_records())),
        lambda: write_pdf(
            corpus.folder / "times.pdf", ["The ferry leaves\nthe quay at six.", "End."]
        ),
        lambda: write_docx(corpus.folder / "a.docx", ["A goat called Biscuit."], [["a", "b"]], "f"),
        lambda: corpus.write("ça & là.txt", "Où est le café? 東京 🙂"),
    ]
    for place in range(len(writers)):
        writers[(place + order) % len(writers)]()
    corpus.settings(
        f"model: {{base: '{base}'}}\n"
        "augment: {instruction_variations: 2, paraphrases: 1, case_variations: 1}\n"
        "langchain: {splitter: token, chunk_size: 64, chunk_overlap: 8}\n"
    )


def test_ten_environments_make_one_dataset(tmp_path: Path, pico_model: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(pico_model, base)
    said = set()
    for number, environment in enumerate(ENVIRONMENTS):
        root = tmp_path / str(number)
        _write(root, base, number)
        done = subprocess.run(
            [sys.executable, "-c", BUILD, str(root / "data"), str(root / "storage")],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        said.add(done.stdout)
    assert len(said) == 1, said
