"""Starts a real `ft-assets ui` like a user does, and sends requests to it."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from ft_assets.engine.project import Project
from ft_assets_tests.defs.web_server import WebServer

LOCATION = {
    "repositoryName": "__repository__",
    "repositoryLocationName": "ft_assets.definitions",
}
_ADD_PARTITION = """
mutation ($corpus: String!, $location: RepositorySelector!) {
  addDynamicPartition(
    partitionsDefName: "corpus", partitionKey: $corpus, repositorySelector: $location
  ) { __typename }
}
"""
_LAUNCH = """
mutation ($run: ExecutionParams!) {
  launchRun(executionParams: $run) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
_STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


class UI(WebServer):
    """A server that answers, its process and its instance folder."""

    def __init__(
        self, url: str, token: str, process: "subprocess.Popen[bytes]", home: Path, log: Path
    ) -> None:
        super().__init__(url, token)
        self.process = process
        self.home = home
        self.log = log

    def processes(self) -> list[psutil.Process]:
        """All its living processes: those with its instance folder in their environment."""
        return processes_of(self.home)

    def register(self, corpus: str) -> None:
        """Adds a corpus as a partition; the sensor would do so too, but later."""
        self.graphql(_ADD_PARTITION, corpus=corpus, location=LOCATION)

    def launch(self, asset: str, corpus: str) -> str:
        """Starts a run like *Materialize* does; returns its id."""
        self.register(corpus)
        asset_key = {"path": [asset]}
        selector = {**LOCATION, "jobName": "__ASSET_JOB", "assetSelection": [asset_key]}
        tags = [{"key": "dagster/partition", "value": corpus}]
        run = {"selector": selector, "mode": "default", "executionMetadata": {"tags": tags}}
        launched = self.graphql(_LAUNCH, run=run)["launchRun"]
        return str(launched["run"]["runId"])

    def wait_for_run(self, run_id: str, status: str) -> None:
        """Waits until a run has a status."""
        deadline = time.monotonic() + 120
        while (now := self.graphql(_STATUS, id=run_id)["runOrError"]["status"]) != status:
            assert time.monotonic() < deadline, now
            assert now != "FAILURE", self.log.read_text()
            time.sleep(0.5)


def processes_of(home: Path) -> list[psutil.Process]:
    """The processes that have an instance folder in their environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("DAGSTER_HOME") == str(home):
                found.append(process)
    return found


def wait_until_gone(home: Path, seconds: float) -> None:
    """Waits until all processes of an instance folder have ended."""
    deadline = time.monotonic() + seconds
    while left := processes_of(home):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


@contextmanager
def serve_ui(
    project: Project, home: Path, working_directory: Path, **variables: str
) -> Iterator[UI]:
    """Runs `ft-assets ui` on a free port with these variables until the block ends."""
    environment = {
        **os.environ,
        **variables,
        "FT_ASSETS_DATA": str(project.data),
        "FT_ASSETS_STORAGE": str(project.storage.root),
        "DAGSTER_HOME": str(home),
    }
    log = home.parent / f"{home.name}.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ft_assets.cli", "ui", "--port", "0"],
            env=environment,
            cwd=working_directory,
            stdout=file,
            stderr=file,
        )
    try:
        url, token = _address(log, process)
        yield UI(url, token, process, home, log)
    finally:
        process.terminate()
        process.wait(timeout=60)


def _address(log: Path, process: "subprocess.Popen[bytes]") -> tuple[str, str]:
    """The output that it prints once it answers."""
    deadline = time.monotonic() + 120
    while not (found := re.search(r"(http://[\d.:]+)/\?token=(\S+)", log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    return found[1], found[2]
