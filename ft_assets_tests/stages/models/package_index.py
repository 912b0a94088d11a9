"""A package index on loopback, with source distributions that leave a mark if anything in them is run."""

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


class PackageIndex:
    """The simple index of a few source distributions, and what was asked of it."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark
        self._files: dict[str, bytes] = {}
        self._seen: list[str] = []
        self.address = ""

    def add_sdist(self, name: str, version: str, files: dict[str, str]) -> str:
        """Adds a source distribution whose build backend and setup.py leave the mark; its sha256."""
        leave = f"open({str(self._mark)!r}, 'w').close()\n"
        every = {"pyproject.toml": _PROJECT, "backend.py": leave, "setup.py": leave, **files}
        every["PKG-INFO"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for path, text in every.items():
                item = tarfile.TarInfo(f"{name}-{version}/{path}")
                item.size = len(text.encode())
                archive.addfile(item, io.BytesIO(text.encode()))
        self._files[f"{name}-{version}.tar.gz"] = buffer.getvalue()
        return hashlib.sha256(buffer.getvalue()).hexdigest()

    def was_run(self) -> bool:
        """Whether anything in a source distribution was run."""
        return self._mark.exists()

    def fetched(self) -> list[str]:
        """The paths that were asked for."""
        return list(self._seen)

    def pip_settings(self) -> dict[str, str]:
        """The environment in which pip asks this index and no other."""
        return {
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_INDEX_URL": f"{self.address}/simple/",
            "PIP_EXTRA_INDEX_URL": "",
            "PIP_FIND_LINKS": "",
            "PIP_NO_CACHE_DIR": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def answer(self, path: str) -> tuple[str, bytes] | None:
        """The content type and content at a path."""
        self._seen.append(path)
        room, _, name = path.strip("/").partition("/")
        if room == "files" and name in self._files:
            return "application/gzip", self._files[name]
        links = [file for file in self._files if file.startswith(f"{name}-")]
        if room != "simple" or not links:
            return None
        page = "".join(f'<a href="/files/{file}">{file}</a>' for file in links)
        return "text/html", f"<!DOCTYPE html><html><body>{page}</body></html>".encode()


@contextmanager
def serve(mark: Path) -> Iterator[PackageIndex]:
    """A package index while the block runs."""
    index = PackageIndex(mark)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = index.answer(self.path)
            self.send_response(200 if found else 404)
            kind, content = found or ("text/plain", b"")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        index.address = f"http://127.0.0.1:{server.server_address[1]}"
        yield index
        server.shutdown()
