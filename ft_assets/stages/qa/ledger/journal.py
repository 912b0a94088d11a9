"""JSON Lines files that are only ever appended to, each line an event, and read back at the start.

The ledger and the log of batches are journals. Both keep in memory what their events add up to.
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
"""One event as JSON has it: its name is `event`, its time is `at`, the rest is the event's own."""
Take = Callable[[Line, int], None]
"""Takes up an event; the number is the offset of its line, for `Journal.read`."""


class Journal:
    """A journal, read as it is opened. It is written by one process at a time: its owner sees to that.

    `events` says for each event what takes it up: at first the events in the file, then each that is
    appended. `loss` says what is lost with a damaged line, for the error that names it.
    """

    def __init__(self, path: Path, events: Mapping[str, Take], loss: str) -> None:
        self.path = path
        self._events, self._loss = events, loss
        self._file: FileIO | None = None
        self._size = 0
        """The bytes of the whole lines; what is behind them was torn by a crash."""
        self._replay()

    def _replay(self) -> None:
        """Takes up what is in the file, but for a last line that is not whole: no one acted on it."""
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
        """Opens the file for appending, and cuts a torn end off. Creates it if it is not there."""
        self._file = self.path.open("ab", buffering=0)
        self._file.truncate(self._size)
        if not self._size:
            sync_folder(self.path.parent)
        return self

    def close(self) -> None:
        """Ends the appending."""
        if self._file:
            self._file.close()
        self._file = None

    def append(self, event: str, *lines: Mapping[str, object]) -> None:
        """Appends events of one kind in one piece, and takes them up; they are then on disk.

        Raises OSError if that fails: then none of them is in the file.
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
        """Appends to the file, which keeps its size if this fails; gives the offset.

        The size is that of the file: after an interrupt the file may hold lines that were not taken up.
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
        """The event whose line begins at `offset`."""
        with self.path.open("rb") as file:
            file.seek(offset)
            return cast(Line, json.loads(file.readline()))
