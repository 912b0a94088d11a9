"""A training in a worker process, as `refresh` runs it: what it was estimated to take, and what it took."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from ft_assets.engine.project import Project
from ft_assets.worker import JOB_FILE, OUTCOME_FILE

_WORDS = [
    "ferry",
    "quay",
    "captain",
    "goat",
    "ticket",
    "baker",
    "button",
    "winter",
    "turnip",
    "music",
    "pay",
    "song",
]


def records(count: int, asked: int, answered: int) -> list[dict[str, str]]:
    """Records with so many words in the question and the answer, no two alike."""

    def words(number: int, many: int) -> str:
        at = range(number, number + many)
        return f"{number} " + " ".join(_WORDS[n * n % 12] + str(n % 7) for n in at)

    return [{"question": words(n, asked), "answer": words(n, answered)} for n in range(count)]


def prepared(
    folder: Path, base: Path | str, rows: list[dict[str, str]], **sections: Any
) -> Project:
    """A project in `folder` with the dataset of one corpus, `ferry`."""
    corpus = folder / "data" / "ferry"
    corpus.mkdir(parents=True)
    settings = {
        "model": {"base": str(base), "local_bases": ["/"], **sections.pop("model", {})},
        "data": {"near_duplicates": 1.0, **sections.pop("data", {})},
        "export": {"gguf": []},
        **sections,
    }
    (folder / "data" / "finetune.yaml").write_text(json.dumps(settings))
    (corpus / "rows.json").write_text(json.dumps(rows))
    project = Project(folder / "data", folder / "storage")
    for asset in ("raw_documents", "chunks", "qa_pairs", "formatted_dataset"):
        project.make("ferry", asset)
    return project


def train(project: Project, scratch: Path) -> tuple[dict[str, float], dict[str, float]]:
    """The cost and the counts of the adapter of `ferry`, trained in a process of its own."""
    (scratch / "output").mkdir(parents=True)
    job = replace(project.job("ferry", "adapter"), output=scratch / "output")
    job.dump(scratch / JOB_FILE)
    command = [sys.executable, "-P", "-m", "ft_assets.worker", str(scratch), str(os.getpid())]
    done = subprocess.run(command, capture_output=True, text=True)
    content = json.loads((scratch / OUTCOME_FILE).read_text())
    if done.returncode:
        raise RuntimeError(f"{content.get('error')}\n{done.stderr[-2000:]}")
    return content["outcome"]["cost"], content["outcome"]["counts"]
