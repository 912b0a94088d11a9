"""The sha256 of files that did not change, remembered between processes."""

import json
from contextlib import suppress
from pathlib import Path

from ft_assets.files import hash_file, write_atomically


class DigestCache:
    """Remembers the sha256 of files by path, size and change time, so that they are read once.

    An entry made within two seconds of the file's own change is not trusted: the file may have
    changed again within the same tick of the clock.
    """

    _RACY_NS = 2_000_000_000

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[int | str]] = {}
        with suppress(OSError, ValueError):
            self._known = json.loads(path.read_text())
        self._changed = False

    def digest(self, path: Path) -> str:
        """The sha256 of a file, by an absolute path. Raises OSError if it cannot be read."""
        stat = path.stat()
        key = str(path)
        state: list[int | str] = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        known = self._known.get(key)
        if known and known[:-1] == state:
            return str(known[-1])
        content = hash_file(path)
        newest = max(stat.st_mtime_ns, stat.st_ctime_ns)
        if _now_ns() - newest > self._RACY_NS:
            self._known[key] = [*state, content]
            self._changed = True
        return content

    def save(self) -> None:
        """Saves what was learnt; a cache that cannot be written is not an error."""
        if self._changed:
            with suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self._path, json.dumps(self._known))
            self._changed = False


def _now_ns() -> int:
    import time

    return time.time_ns()
