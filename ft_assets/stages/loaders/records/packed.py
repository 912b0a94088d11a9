"""The bytes of a file, unpacked if they are gzip, whatever the file is called."""

import gzip
import io
import zlib
from pathlib import Path
from typing import BinaryIO

from ft_assets.stages.loaders.interface import UnreadableError

GZIP = b"\x1f\x8b"
"""The first bytes of gzip data."""
_BLOCK = 1 << 20
_MB = 2**20


class Bytes:
    """A file's bytes, which can be read from their start again and again.

    `damage` says why unpacking ended before the end of the file.
    """

    def __init__(self, path: Path, max_unpacked_mb: int) -> None:
        self._path, self._most = path, max_unpacked_mb
        with path.open("rb") as file:
            self.is_packed = file.read(2) == GZIP
        self.damage: str | None = None

    def open(self) -> BinaryIO:
        """Opens them; reading raises UnreadableError beyond `data.loaders.max_unpacked_mb`."""
        if not self.is_packed:
            return self._path.open("rb")
        return io.BufferedReader(_Unpacked(self, self._path, self._most), _BLOCK)


class _Unpacked(io.RawIOBase):
    """What a gzip file unpacks to, as far as it can be unpacked."""

    def __init__(self, told: Bytes, path: Path, most: int) -> None:
        self._told, self._left, self._most = told, most * _MB, most
        self._file = gzip.GzipFile(path, "rb")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        try:
            content = self._file.read1(len(buffer))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self._told.damage = str(error)
            return 0
        self._left -= len(content)
        if self._left < 0:
            reason = f"it unpacks to more than {self._most} MB: data.loaders.max_unpacked_mb"
            raise UnreadableError(reason, final=True)
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()
