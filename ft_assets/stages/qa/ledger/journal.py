"""Append-only JSON Lines files, each line an event, replayed when they are opened.

The ledger and the log of batches are journals. Both keep the state that results from their events in
memory.
"""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any, cast

from ft_assets.errors import StageError
from ft_assets.files import sync_folder

Line = dict[str, Any]
"""One event: `event` is its name, `at` its time, and the other keys depend on the event."""
Take = Callable[[Line, int], None]
"""Applies an event; the number is the offset of its line, for `Journal.read`."""


class Journal:
    """A journal, replayed when it is created. Its owner must ensure that one process writes at a time.

    `events` maps each event's name to the function that applies it: first to the events in the file,
    then to each appended one. `loss` says what a damaged line loses, for the error that names the line.
    """

    def __init__(self, path: Path, events: Mapping[str, Take], loss: str) -> None:
        self.path = path
        self._events, self._loss = events, loss
        self._file: FileIO | None = None
        self._size = 0
        """The size of the complete lines in bytes; anything after them was torn by a crash."""
        self._replay()

    def _replay(self) -> None:
        """Applies the events in the file, except an incomplete last line: nothing acted on it yet."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    self._take(json.loads(line), self._size)
                except (ValueError, KeyError, TypeError) as error:
                    raise StageError(
                        f"{self.path}:{number} is damaged ({type(error).__name__}: {error}). Restore "
                        f"the file, or remove that line: {self._loss}"
                    ) from error
                self._size += len(line)

    def _take(self, line: Line, offset: int) -> None:
        event = line["event"]
        if event not in self._events:
            raise ValueError(f"event {event!r}")
        self._events[event](line, offset)

    def open(self) -> "Journal":
        """Opens the file for appending and cuts off a torn end. Creates the file if it is missing."""
        self._file = self.path.open("ab", buffering=0)
        self._file.truncate(self._size)
        if not self._size:
            sync_folder(self.path.parent)
        return self

    def close(self) -> None:
        """Closes the file."""
        if self._file:
            self._file.close()
        self._file = None

    def append(self, event: str, *lines: Mapping[str, object]) -> None:
        """Appends events of one kind in one write, and applies them; they are on disk when this returns.

        Raises OSError if that fails; then none of them is in the file.
        """
        head = {"event": event, "at": datetime.now(UTC).isoformat(timespec="milliseconds")}
        whole: list[Line] = [{**head, **line} for line in lines]
        written = [json.dumps(line).encode() + b"\n" for line in whole]
        offset = self._write(b"".join(written))
        self._size = offset + sum(map(len, written))
        for line, text in zip(whole, written, strict=True):
            self._take(line, offset)
            offset += len(text)

    def _write(self, data: bytes) -> int:
        """Appends to the file and returns the offset; if this fails, the file keeps its size.

        The offset is the size on disk, not `_size`: after an interrupt the file may contain lines that
        were not applied.
        """
        if self._file is None:
            raise ValueError(f"{self.path} is not open")
        size = os.fstat(self._file.fileno()).st_size
        try:
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) or 0 :]
            os.fsync(self._file.fileno())
        except BaseException:
            with suppress(OSError):
                self._file.truncate(size)
            raise
        return size

    def read(self, offset: int) -> Line:
        """The event whose line starts at `offset`."""
        with self.path.open("rb") as file:
            file.seek(offset)
            return cast(Line, json.loads(file.readline()))
