"""A real Dagster web server on loopback, queried through its public GraphQL."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STALE = """
query ($asset: String!, $corpus: String!) {
  assetNodeOrError(assetKey: {path: [$asset]}) {
    ... on AssetNode { staleStatus(partition: $corpus) }
  }
}
"""
RELOAD = """
mutation { reloadWorkspace { __typename ... on PythonError { message } } }
"""


class WebServer:
    """A server that answers at `url`; that of `ft-assets ui` needs its token."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url
        self.token = token

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """The `data` of the answer."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(f"{self.url}/graphql", body, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            said = json.load(answer)
        assert not said.get("errors"), said
        return dict(said["data"])

    def stale_status(self, assets: list[str], corpus: str) -> dict[str, str]:
        """Dagster's mark on each asset of a corpus: FRESH, STALE or MISSING."""
        return {
            asset: self.graphql(STALE, asset=asset, corpus=corpus)["assetNodeOrError"][
                "staleStatus"
            ]
            for asset in assets
        }

    def reload(self) -> None:
        """Makes the server reload the definitions."""
        self.graphql(RELOAD)


@contextmanager
def serve(home: Path, module: str, environment: dict[str, str]) -> Iterator[WebServer]:
    """Serves the definitions of a module from an instance folder until the block ends."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "dagster_webserver", "-m", module, "-h", "127.0.0.1"]
    with (home / "webserver.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "-p", str(port)],
            env={**os.environ, **environment, "DAGSTER_HOME": str(home)},
            stdout=log,
            stderr=log,
        )
        try:
            server = WebServer(f"http://127.0.0.1:{port}")
            _wait(server, process)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=60)


def _wait(server: WebServer, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, "the web server ended"
        try:
            server.graphql("{ version }")
        except OSError:
            time.sleep(0.3)
        else:
            return
    raise AssertionError("the web server does not answer")
