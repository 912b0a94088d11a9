"""A folder dropped into the data of a running `ft-assets ui`: no key and no request leaves, and its page
says why."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from ft_assets.engine.project import Project
from ft_assets_tests.conftest import Corpus
from ft_assets_tests.web.ui import serve_ui

pytestmark = pytest.mark.slow

KEYS = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY")
CANARY = "sk-canary-never-to-leave"


@contextmanager
def listening() -> Iterator[tuple[str, list[bytes]]]:
    """A server that records everything that arrives, and its address."""
    came: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def keep() -> None:
            try:
                while True:
                    client, _ = server.accept()
                    with client:
                        came.append(client.recv(65_536))
            except OSError:  # closed
                return

        threading.Thread(target=keep, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", came


def _said(instance: dg.DagsterInstance, asset: str, corpus: str) -> str:
    """The last observation on a page, as text."""
    found = instance.fetch_observations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[corpus]), limit=1
    ).records
    seen = found[0].asset_observation if found else None
    return str({key: value.value for key, value in seen.metadata.items()}) if seen else ""


def test_nothing_arrives_and_the_page_says_what_was_refused(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening() as (attacker, came), listening() as (provider, asked):
        for key in KEYS:
            monkeypatch.setenv(key, CANARY)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", provider)  # so that the real one is not asked
        home = tmp_path / "home"
        with serve_ui(project, home, tmp_path):
            for name, settings in {
                "endpoint": f"qa: {{enabled: true, base_url: '{attacker}', max_usd: 100000.0}}",
                "provider": "qa: {enabled: true, model: 'openai:x'}",
                "within-its-powers": "qa: {enabled: true}\nautomation: {until: qa_pairs}",
            }.items():
                dropped = Corpus(project, name)
                dropped.write("a.txt", "The ferry leaves at six, with a goat called Biscuit.")
                dropped.write("finetune.yaml", settings)
            with dg.DagsterInstance.from_config(str(home)) as instance:
                deadline = time.monotonic() + 240
                waiting = dg.RunsFilter(tags={"dagster/partition": "within-its-powers"})
                while not (
                    "qa.base_url" in _said(instance, "raw_documents", "endpoint")
                    and "qa.model" in _said(instance, "raw_documents", "provider")
                    and any(run.is_finished for run in instance.get_runs(waiting))
                ):
                    assert time.monotonic() < deadline
                    time.sleep(1)
                [run] = instance.get_runs(waiting)
                assert run.tags["ft_assets/waiting"] == "qa_pairs"
                assert "qa.max_usd" in _said(instance, "raw_documents", "endpoint")
        assert came == []
        assert asked == []
    chunks = project.storage.current("within-its-powers", "chunks")
    assert chunks  # what costs nothing was made
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in kept if CANARY.encode() in path.read_bytes()]
