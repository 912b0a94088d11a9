"""The graph with fake heavy stages, for tests of what is built and when.

A fake stage's output depends on exactly what the real stage would read, so that it changes with it;
freshness does not depend on the content. test_end_to_end.py runs the real stages.
"""

import hashlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import dagster as dg

from ft_assets.defs.checks import checks_of
from ft_assets.engine import graph
from ft_assets.manifest import Verdict
from ft_assets.records import ComparedAnswer
from ft_assets.stages.job import Job, Outcome
from ft_assets.tables import write_table

CODE_VERSIONS = "FT_ASSETS_TEST_CODE_VERSIONS"
"""Names a JSON file of code versions by asset, to be used instead of the graph's own."""


class StandIn:
    """Runs a heavy job by writing a digest of its input."""

    def run(self, context: dg.AssetExecutionContext, job: Job) -> Outcome:
        """Writes the files that partition pages read, and one file in place of the others."""
        inputs = {name: folder.name for name, folder in job.inputs.items()}
        said = json.dumps([job.asset, inputs, job.settings], sort_keys=True, default=str)
        (job.output / "digest").write_text(hashlib.sha256(said.encode()).hexdigest())
        (job.output / "loss_history.json").write_text('[{"step": 1, "loss": 1.0}]')
        (job.output / "metrics.json").write_text("{}")
        for name in ("answers.parquet", "held_out.parquet"):
            write_table(job.output / name, ComparedAnswer, [])
        checks: dict[str, Verdict] = {}
        for check in checks_of(job.asset):
            checks |= check.verdict(True, "not looked at")
        return Outcome(checks=checks)


def use_code_versions() -> None:
    """Puts the code versions of the file into the graph."""
    path = Path(os.environ.get(CODE_VERSIONS, ""))
    if path.is_file():
        for asset, version in json.loads(path.read_text()).items():
            graph.GRAPH[asset] = replace(graph.GRAPH[asset], code_version=version)


use_code_versions()

from ft_assets.definitions import build_definitions  # noqa: E402  (it reads the graph)

defs = build_definitions(compute=StandIn())


def refresh(corpora: list[str]) -> None:
    """Refreshes corpora and prints the outcome of each asset as JSON."""
    from ft_assets.cli.refresh import refresh_corpus
    from ft_assets.engine.project import Made, Project

    made: list[Made] = []
    project = Project.from_environment(made.append)
    for corpus in corpora:
        found = refresh_corpus(project, corpus, "gguf", lambda *_: None, compute=StandIn())
        assert not found.failures, found.failures
    became = [(one.manifest.corpus, one.manifest.asset, one.reused) for one in made]
    print(json.dumps(became))


if __name__ == "__main__":
    refresh(sys.argv[1:])
