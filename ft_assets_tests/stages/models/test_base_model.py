"""Base models: from a hub on loopback through the real client, from a folder, from a package."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from ft_assets.stages.models.base_model import fetch_base_model, folder_digest
from ft_assets_tests.conftest import Corpus, RunCLI

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """The three calls of the model hub that a download makes, with its errors."""

    folder: Path
    seen: list[str]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = unquote(self.path.partition("?")[0])
        self.seen.append(path)
        if "acme/gated" in path:
            return self._send(403, b"", {"X-Error-Code": "GatedRepo"}, body)
        if "acme/nano" not in path:
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, body)
        if path.startswith("/api/models/"):
            if not path.endswith((f"/{COMMIT}", "/main", "/v1")):
                return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"}, body)
            names = [item.name for item in self.folder.iterdir()] + ["evil.py", "pytorch_model.bin"]
            told: object = {
                "id": "acme/nano",
                "sha": COMMIT,
                "siblings": [{"rfilename": name} for name in names],
            }
            if "/tree/" in path:
                told = [
                    {"type": "file", "path": name, "oid": "0" * 40, "size": self._size(name)}
                    for name in names
                ]
            return self._send(200, json.dumps(told).encode(), {}, body)
        content = (self.folder / path.rpartition("/")[2]).read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        return self._send(200, content, {"ETag": etag, "X-Repo-Commit": COMMIT}, body)

    def _size(self, name: str) -> int:
        path = self.folder / name
        return path.stat().st_size if path.exists() else 1

    def _send(self, code: int, content: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


@pytest.fixture
def hub(nano_model: Path) -> Iterator[tuple[str, list[str]]]:
    seen: list[str] = []
    handler = type("OneHub", (Hub,), {"folder": nano_model, "seen": seen})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
        server.shutdown()


def _prepare(
    corpus: Corpus, cli: RunCLI, hub: str, tmp_path: Path, base: str, revision: str = "null"
) -> tuple[int, str]:
    corpus.settings(f"model: {{base: {base}, revision: {revision}}}")
    done = cli("prepare-data", "ferry", HF_ENDPOINT=hub, HF_HOME=str(tmp_path / "hf"))
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_a_hub_model_is_fetched_once_at_a_commit_and_no_code_with_it(
    corpus: Corpus, cli: RunCLI, hub: tuple[str, list[str]], tmp_path: Path
) -> None:
    code, said = _prepare(corpus, cli, hub[0], tmp_path, "acme/nano", "v1")
    assert code == 0, said
    manifest = corpus.project.storage.current("ferry", "formatted_dataset")
    assert manifest
    assert manifest.tools["base_revision"] == COMMIT
    assert not [path for path in hub[1] if path.endswith((".py", ".bin"))]


def _overwrite(path: Path) -> None:
    blob = path.resolve()
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def _replace(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "harm", "says"),
    [
        ("tokenizer.json", _overwrite, "its content was changed in the cache"),
        ("model.safetensors", _overwrite, "its content was changed in the cache"),
        ("config.json", _replace, "something else was put in its place"),
    ],
)
def test_a_hub_model_that_was_changed_in_the_cache_is_refused_and_repaired(
    hub: tuple[str, list[str]],
    tmp_path: Path,
    name: str,
    harm: Callable[[Path], None],
    says: str,
) -> None:
    code = "import sys; from ft_assets.stages.models.base_model import fetch_base_model; "
    code += "print(fetch_base_model('acme/nano', 'v1').folder)"
    own = {"HF_ENDPOINT": hub[0], "HF_HOME": str(tmp_path / "hf")}

    def fetch() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True)

    folder = Path(fetch().stdout.strip())
    harm(folder / name)
    refused = fetch()
    assert refused.returncode
    assert says in refused.stderr
    [repair] = re.findall(r"run: (rm '.*?');", refused.stderr)
    subprocess.run(repair, shell=True, check=True)
    assert Path(fetch().stdout.strip()) == folder


@pytest.mark.parametrize(
    ("base", "revision", "code", "says"),
    [
        ("acme/gated", "null", 1, "set HF_TOKEN"),
        ("acme/missing", "null", 1, "the model hub has no acme/missing"),
        ("acme/nano", "v9", 1, "no revision 'v9'"),
    ],
)
def test_what_the_hub_refuses_is_said(
    corpus: Corpus,
    cli: RunCLI,
    hub: tuple[str, list[str]],
    tmp_path: Path,
    base: str,
    revision: str,
    code: int,
    says: str,
) -> None:
    assert _prepare(corpus, cli, hub[0], tmp_path, base, revision)[0] == code
    assert says in _prepare(corpus, cli, hub[0], tmp_path, base, revision)[1]


def test_a_hub_that_cannot_be_reached_is_said(corpus: Corpus, cli: RunCLI, tmp_path: Path) -> None:
    code, said = _prepare(corpus, cli, "http://127.0.0.1:1", tmp_path, "acme/nano")
    assert code == 3
    assert "could not be reached" in said


def test_a_local_folder_is_known_by_its_bytes(nano_model: Path) -> None:
    found = fetch_base_model(str(nano_model), None)
    assert found.revision == folder_digest(nano_model)
    assert found.folder == nano_model.resolve()
