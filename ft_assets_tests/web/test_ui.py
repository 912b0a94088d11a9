"""A real `ft-assets ui`: what reaches it, what it runs, and that all its processes end with it."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ft_assets.engine.lease import hold
from ft_assets.engine.project import Project
from ft_assets_tests.conftest import Corpus
from ft_assets_tests.test_children import CANARIES, held
from ft_assets_tests.web.ui import UI, serve_ui, wait_until_gone

pytestmark = pytest.mark.slow

SETTINGS = """\
telemetry: {enabled: false}
storage: {sqlite: {base_dir: {env: TEST_DATABASE}}}
"""
PLANTED = ["ft_assets", "torch", "yaml", "sitecustomize", "dagster", "uvicorn", "encodings"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("project")
    (folder / "data").mkdir()
    return Project(folder / "data", folder / "storage")


@pytest.fixture(scope="module")
def corpus(project: Project) -> Corpus:
    """A corpus with code planted in it."""
    made = Corpus(project, "ferry")
    made.write("ferry.txt", "The ferry leaves the north quay at six, with a goat called Biscuit.")
    for name in PLANTED:
        made.write(f"{name}.py", f"import os; os.mkdir({str(project.data / 'was-run')!r})")
    made.write(".env", "FT_ASSETS_TEST_PLANTED=1")
    return made


@pytest.fixture(scope="module")
def ui(corpus: Corpus) -> Iterator[UI]:
    """Started inside the corpus, with keys in its environment."""
    home = corpus.project.data.parent / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text(SETTINGS)
    more = {**CANARIES, "TEST_DATABASE": str(home / "database")}
    with serve_ui(corpus.project, home, corpus.folder, **more) as served:
        yield served


def _status(url: str, headers: dict[str, str], body: bytes | None = None) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def test_only_the_token_opens_it(ui: UI) -> None:
    own = {"Authorization": f"Bearer {ui.token}"}
    assert _status(f"{ui.url}/server_info", own) == 200
    assert _status(f"{ui.url}/server_info", {}) == 401
    assert _status(f"{ui.url}/server_info", {**own, "Host": "evil.example"}) == 403
    assert _status(f"{ui.url}/graphql?query=mutation%7BsetNuxSeen%7D", own) == 405
    assert _status(f"{ui.url}/graphql", {**own, "Content-Type": "text/plain"}, b"{}") == 415


def test_nothing_planted_in_the_working_directory_runs(ui: UI, corpus: Corpus) -> None:
    run = ui.launch("raw_documents", corpus.name)
    ui.wait_for_run(run, "SUCCESS")
    assert corpus.project.storage.current_version("ferry", "raw_documents")
    assert not (corpus.project.data / "was-run").exists()
    planted = [each for each in ui.processes() if "FT_ASSETS_TEST_PLANTED" in each.environ()]
    assert [process.cmdline() for process in planted] == []


def test_only_what_asks_a_provider_holds_keys(ui: UI) -> None:
    """Dagster's web server and daemon get the variables that `dagster.yaml` names, and no key."""
    holding = {"ft_assets.web.pages": False, "dagster._daemon": False, "code-server": True}
    found = {}
    for process in ui.processes():
        line = process.cmdline()
        for name in holding.keys() & set(line):
            found[name] = bool(held(process.environ()))
            assert process.environ()["TEST_DATABASE"]
    assert found == holding


def test_the_token_is_in_one_line_that_was_printed_only(ui: UI) -> None:
    assert _status(f"{ui.url}/?token={ui.token}", {}) == 401  # redirected, and without the cookie
    assert ui.log.read_text().count(ui.token) == 1
    for process in ui.processes():
        assert ui.token not in str([process.cmdline(), process.environ()])
    kept = [path for path in ui.home.rglob("*") if path.is_file()]
    assert not [path for path in kept if ui.token.encode() in path.read_bytes()]


@pytest.mark.parametrize("same", ["port", "home"])
def test_a_second_one_names_the_first(ui: UI, corpus: Corpus, tmp_path: Path, same: str) -> None:
    port = ui.url.rpartition(":")[2] if same == "port" else "0"
    home = tmp_path / "home" if same == "port" else ui.home
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ft_assets.cli", "ui", "--port", port],
        env={**os.environ, "DAGSTER_HOME": str(home), "COLUMNS": "500"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert f"ft-assets ui (process {ui.process.pid}) on {ui.url}" in done.stderr
    assert len(ui.processes()) >= 6


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_of_it_lives_on(
    number: signal.Signals, project: Project, corpus: Corpus, tmp_path: Path
) -> None:
    home = project.storage.root / corpus.name / "chunks"
    with (
        serve_ui(project, tmp_path / "home", tmp_path) as ui,
        hold(home, "", lambda run: False),  # so the run stays in progress
    ):
        run = ui.launch("chunks", corpus.name)
        ui.wait_for_run(run, "STARTED")
        time.sleep(2)
        assert len(ui.processes()) >= 7
        ui.process.send_signal(number)
        wait_until_gone(ui.home, 10 if number == signal.SIGKILL else 40)
        assert ui.process.wait(timeout=5) == (-9 if number == signal.SIGKILL else 0)
