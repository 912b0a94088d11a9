"""In a browser: a page on another port gets nothing, and the owner can materialize an asset."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ft_assets_tests.conftest import Corpus
from ft_assets_tests.defs.test_browser import CHROMIUM
from ft_assets_tests.web.ui import LOCATION, UI, serve_ui

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

ATTACK = """
async ([url, mutation]) => {
  const seen = {};
  const told = async (name, what) => {
    try { seen[name] = await what(); } catch (error) { seen[name] = 'failed'; }
  };
  const post = (type, mode) => fetch(url + '/graphql', {
    method: 'POST', mode, credentials: 'include',
    headers: {'Content-Type': type}, body: JSON.stringify({query: mutation})});
  await told('read', async () => (await fetch(url + '/server_info', {credentials: 'include'})).text());
  await told('get', async () => (await fetch(
    url + '/graphql?query=' + encodeURIComponent(mutation), {credentials: 'include'})).text());
  await told('json', async () => (await post('application/json', 'cors')).text());
  await told('blind', async () => (await post('text/plain', 'no-cors')).type);
  await told('socket', () => new Promise((done) => {
    const socket = new WebSocket(url.replace('http', 'ws') + '/graphql', 'graphql-ws');
    socket.onopen = () => done('open');
    socket.onerror = () => done('failed');
  }));
  await told('script', () => new Promise((done) => {
    const script = document.createElement('script');
    script.onload = () => done('loaded'); script.onerror = () => done('failed');
    script.src = url + '/server_info'; document.body.append(script);
  }));
  return seen;
}
"""
FORM = """
([url, mutation]) => {
  const form = document.createElement('form');
  form.method = 'POST'; form.enctype = 'text/plain'; form.action = url + '/graphql';
  form.innerHTML = '<input name="query">'; form.firstChild.value = mutation;
  document.body.append(form); form.submit();
}
"""
FRAME = """
(url) => {
  const frame = document.createElement('iframe');
  frame.src = url + '/'; document.body.append(frame);
}
"""


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<body>another site")

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def _another_site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def ui(corpus: Corpus, tmp_path: Path) -> Iterator[UI]:
    with serve_ui(corpus.project, tmp_path / "home", tmp_path) as served:
        yield served


def _partitions(ui: UI) -> list[str]:
    query = """query ($location: RepositorySelector!) { repositoryOrError(repositorySelector: $location) {
      ... on Repository { assetNodes { partitionKeys } } } }"""
    nodes = ui.graphql(query, location=LOCATION)["repositoryOrError"]["assetNodes"]
    return sorted({key for node in nodes for key in node["partitionKeys"]})


def _attack(context: Any, site: str, ui: UI) -> None:
    """Runs from a page of another site in the browser that the owner is logged in with."""
    mutation = (
        'mutation { addDynamicPartition(partitionsDefName: "corpus", partitionKey: "attacked", '
        f'repositorySelector: {{repositoryName: "{LOCATION["repositoryName"]}", '
        f'repositoryLocationName: "{LOCATION["repositoryLocationName"]}"}}) {{ __typename }} }}'
    )
    page = context.new_page()
    page.goto(site)
    seen = page.evaluate(ATTACK, [ui.url, mutation])
    assert seen == {
        "read": "failed",
        "get": "failed",
        "json": "failed",
        "blind": "failed",  # or "opaque": sent, refused, and never seen
        "socket": "failed",
        "script": "failed",
    } | ({"blind": "opaque"} if seen["blind"] == "opaque" else {})
    page.evaluate(FRAME, ui.url)
    page.wait_for_timeout(2_000)
    [frame] = [frame for frame in page.frames if frame != page.main_frame]
    assert "dagster" not in frame.content().lower()
    page.evaluate(FORM, [ui.url, mutation])
    page.get_by_text("ft-assets refused this request").wait_for()
    page.close()
    assert "attacked" not in _partitions(ui)


def _materialize(page: Any, ui: UI, corpus: Corpus) -> None:
    """The owner opens the printed address and clicks the button."""
    page.goto(f"{ui.url}/?token={ui.token}")
    page.wait_for_url(lambda url: "token" not in url)
    for asset in ("raw_documents", "gguf"):  # the asset graph, with no group collapsed
        page.get_by_text(asset, exact=True).first.wait_for(timeout=60_000)
    if folder := os.environ.get("FT_ASSETS_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "graph.png")
    page.goto(f"{ui.url}/assets/raw_documents?view=partitions&partition={corpus.name}")
    page.get_by_role("button", name="Materialize").first.click(timeout=60_000)
    page.get_by_role("button", name="Launch 1 run").click()
    for _ in range(120):
        if corpus.project.storage.current_version(corpus.name, "raw_documents"):
            return
        page.wait_for_timeout(1_000)
    pytest.fail(ui.log.read_text())


def test_another_site_gets_nothing_and_the_owner_works(ui: UI, corpus: Corpus) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    ui.register(corpus.name)
    with sync_api.sync_playwright() as play, _another_site() as site:
        browser = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        sockets: list[str] = []
        page = context.new_page()
        page.on("websocket", lambda socket: sockets.append(socket.url))
        assert page.goto(ui.url).status == 401
        _materialize(page, ui, corpus)
        assert sockets, "the page no longer opens a websocket: what is tried here is not its way"
        [cookie] = context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        _attack(context, site, ui)
        browser.close()
