"""A person at the web UI: an edit shows as unsynced, *Materialize* in the page makes it fresh.

With FT_ASSETS_SCREENSHOTS naming a folder the pages are kept there as pictures.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ft_assets.cli.refresh import refresh_corpus
from ft_assets.defs.instance import dagster_home
from ft_assets.engine.graph import GRAPH
from ft_assets.engine.project import Project
from ft_assets_tests.conftest import Corpus
from ft_assets_tests.defs.web_server import WebServer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

SAMPLE = Path(__file__).parents[2] / "data" / "beekeepers"
DEFINITIONS = """\
from ft_assets.definitions import build_definitions
from ft_assets.engine.project import Project

defs = build_definitions(project=Project.from_environment(settle_seconds=2))
"""


@contextmanager
def _dagster_dev(folder: Path, environment: dict[str, str]) -> Iterator[WebServer]:
    """The web server and the daemon, as `ft-assets ui` starts them, looking every two seconds."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    (folder / "definitions.py").write_text(DEFINITIONS)
    command = [sys.executable, "-m", "dagster", "dev", "-f", str(folder / "definitions.py")]
    with (folder / "dev.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "-h", "127.0.0.1", "-p", str(port)],
            env={**os.environ, **environment},
            cwd=folder,
            stdout=log,
            stderr=log,
            process_group=0,
        )
    try:
        yield WebServer(f"http://127.0.0.1:{port}")
    finally:
        deadline = time.monotonic() + 20
        os.killpg(process.pid, signal.SIGINT)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(server: WebServer, asset: str, mark: str) -> None:
    deadline = time.monotonic() + 120
    seen = None
    while time.monotonic() < deadline:
        try:
            seen = server.stale_status([asset], "beekeepers")[asset]
        except (OSError, KeyError, TypeError):  # not up yet, or still loading the definitions
            seen = None
        if seen == mark:
            return
        time.sleep(0.5)
    raise AssertionError(f"{asset} is {seen}, not {mark}")


def _keep(page: Any, name: str) -> None:
    folder = os.environ.get("FT_ASSETS_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_an_edit_shows_and_materialize_makes_it_fresh(
    project: Project, pico_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    dagster_home()
    corpus = Corpus(project, "beekeepers")
    shutil.copytree(SAMPLE, corpus.folder)
    corpus.settings(f"model: {{base: '{pico_model}'}}\nautomation: {{until: raw_documents}}")
    refresh_corpus(project, "beekeepers", "formatted_dataset", lambda name, making: None)
    environment = {
        "FT_ASSETS_DATA": str(project.data),
        "FT_ASSETS_STORAGE": str(project.storage.root),
    }
    with _dagster_dev(tmp_path, environment) as server, sync_api.sync_playwright() as play:
        _wait_for(server, "chunks", "FRESH")
        notes = (corpus.folder / "notes.txt").read_text()
        corpus.write("notes.txt", f"{notes}\nIn November the hives are weighed.\n")
        _wait_for(server, "chunks", "STALE")  # the sensor has read the file; the rest is asked for
        server.graphql("mutation { setNuxSeen }")
        browser = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(f"{server.url}/assets/chunks?view=partitions&partition=beekeepers")
        page.get_by_text("Unsynced").first.wait_for(timeout=60_000)
        _keep(page, "partition_unsynced")
        page.get_by_role("button", name="Materialize").first.click()
        page.get_by_role("button", name="Launch 1 run").click()
        _wait_for(server, "chunks", "FRESH")
        page.goto(f"{server.url}/assets/chunks?view=partitions&partition=beekeepers")
        page.get_by_text("Materialized").first.wait_for(timeout=60_000)
        page.wait_for_timeout(2_000)
        _keep(page, "partition_fresh")
        assert page.get_by_text("Unsynced").count() == 0
        page.goto(f"{server.url}/assets/formatted_dataset?view=partitions&partition=beekeepers")
        for name in ("lengths", "trained share"):
            page.locator(f"img[alt='{name}']").first.wait_for(timeout=60_000)
            drawn = page.locator(f"img[alt='{name}']").first.evaluate(
                "picture => picture.naturalWidth"
            )
            assert drawn == 480
        assert page.get_by_text("Show Markdown").count() == 0  # nothing waits for a click
        _keep(page, "dataset_pictures")
        corpus.settings(
            f"model: {{base: '{pico_model}'}}\nautomation: {{until: raw_documents}}\n"
            "qa: {enabled: true}"
        )
        deadline = time.monotonic() + 60
        while page.get_by_text("pairs of all").count() == 0:
            assert time.monotonic() < deadline, "no cost is shown"
            page.goto(f"{server.url}/assets/qa_pairs?view=partitions&partition=beekeepers")
            page.wait_for_timeout(4_000)
        _keep(page, "pairs_cost_before")
        browser.close()
    assert project.status("beekeepers")["chunks"].state == "fresh"
    assert project.status("beekeepers")["formatted_dataset"].state == "stale"
    assert set(project.status("beekeepers")) == set(GRAPH)
