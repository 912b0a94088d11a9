"""Templates that others wrote, rendered in a process that can do no harm and may be ended.

transformers' sandbox keeps a template from running code; it does not keep `{{ 'a' * 10**10 }}` from
filling the memory, nor nested loops from never ending, be it on one word of one document. So nothing
of a template is compiled or rendered in this process. The other one (`process`) starts with the first
template, is kept warm for those that follow, and is replaced if a limit ended it.
"""

import atexit
import json
import os
import selectors
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from ft_assets.children import python, start
from ft_assets.errors import StageError
from ft_assets.stages.templates.process import (
    CPU_SECONDS,
    MEMORY,
    NO_MEMORY,
    Answer,
    pack,
    place_in,
    put_place,
    receive,
    send,
)

_STALLED_SECONDS = 120
"""A machine that is busy with other work gives the process its CPU time late."""
_PIECES = 500
_BYTES = 1 << 20
"""What one request has at most."""
_MOST_LOST = 1


class HarmError(Exception):
    """A template ran into limits more often than it may; says into which."""


@dataclass
class _Died(Exception):  # noqa: N818 (it is caught here)
    """The process ended with this status at this piece of a request, after these answers."""

    status: int
    place: int
    answers: list[Answer]

    def harm(self) -> str | None:
        """What the template did to it; None if it was not the template."""
        if self.status == -signal.SIGXCPU:
            return f"takes more than {CPU_SECONDS} CPU seconds"
        if self.status == NO_MEMORY:
            return f"takes more than {MEMORY >> 20} MB of memory"
        if self.status == -signal.SIGKILL or self.place < 0:
            return None
        return "crashes the process that renders it"


@dataclass
class _Piece:
    """A piece as it is sent, and its number among all."""

    number: int
    content: bytes


class _Process:
    """The process that renders, with a file in which it notes where it is."""

    def __init__(self) -> None:
        self.file = _shared_file()
        self._process = start(
            "template",
            python("ft_assets.stages.templates.process", str(self.file)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("FT_ASSETS_DEBUG") else subprocess.DEVNULL,
            pass_fds=[self.file],
            start_new_session=True,  # a terminal's interrupt is for us
            bufsize=0,
        )
        self._to: IO[bytes] = self._process.stdin  # type: ignore[assignment]
        self._of: IO[bytes] = self._process.stdout  # type: ignore[assignment]

    def answers(self, head: bytes, pieces: list[_Piece]) -> list[Answer]:
        """The answer to each piece, in order; raises _Died."""
        put_place(self.file, -1)
        content = head + b",".join(piece.content for piece in pieces) + b"]}"
        found: list[Answer] = []
        try:
            send(self._to, content)
            while len(found) < len(pieces):
                self._wait()
                answers = receive(self._of)
                if answers is None:
                    raise self._dead(found)
                found += json.loads(answers)
        except OSError as error:
            raise self._dead(found) from error
        return found

    def _dead(self, found: list[Answer]) -> _Died:
        place = place_in(self.file)
        return _Died(self.end(), place, found)

    def _wait(self) -> None:
        """Waits for an answer as long as there is progress."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._of, selectors.EVENT_READ)
            place = place_in(self.file)
            while not selector.select(_STALLED_SECONDS):
                last, place = place, place_in(self.file)
                if place == last:
                    self.end(kill=True)
                    raise StageError(
                        f"the process that renders templates said nothing for {_STALLED_SECONDS} "
                        "seconds: is the machine overloaded? Refresh again"
                    )

    def end(self, *, kill: bool = False) -> int:
        """Lets it end, or kills it; returns its exit code, negative for a signal."""
        if kill:
            self._process.kill()
        self._close()
        return self._process.wait()

    def _close(self) -> None:
        self._to.close()
        self._of.close()
        os.close(self.file)

    def forget(self) -> None:
        """Lets go of it in a forked process, whose it is not."""
        self._close()
        self._process.returncode = 0


def _shared_file() -> int:
    """A file without a name, which another process can be given."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("place")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Renderer:
    """Asks the process that renders, and replaces it. Any number of threads may use it at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: _Process | None = None

    def ask(
        self, kind: str, common: dict[str, Any], pieces: Sequence[Any], most_harm: int = 0
    ) -> list[Answer]:
        """The answer to each piece: see `process.Answer`.

        Raises HarmError once more than `most_harm` of them ran into a limit, StageError if the
        process does not start or stay.
        """
        waiting = [_Piece(number, pack(piece)) for number, piece in enumerate(pieces)]
        head = pack({"kind": kind, "common": common})[:-1] + b', "pieces": ['
        answers: list[Answer] = [{}] * len(waiting)
        lost = 0
        while waiting:
            some, later = _first(waiting)
            found, died = self._answers(head, some)
            left = some[len(found) :]
            if died and (harm := died.harm()):
                found.append({"harm": harm})
                some.insert(len(found) - 1, left.pop(died.place - len(found) + 1))
            elif died:
                lost += 1
                _give_up_after(lost)
            for piece, answer in zip(some, found, strict=False):
                answers[piece.number] = answer
            harms = [answer["harm"] for answer in answers if "harm" in answer]
            if len(harms) > most_harm:
                raise HarmError(harms[-1])
            waiting = left + later
        return answers

    def _answers(self, head: bytes, pieces: list[_Piece]) -> tuple[list[Answer], _Died | None]:
        """The answers to the first of these pieces, and what kept those to the others from coming."""
        with self._lock:
            process = self._process = self._process or _Process()
            try:
                return process.answers(head, pieces), None
            except _Died as died:
                self._process = None
                return died.answers, died
            except StageError:
                self._process = None
                raise

    def close(self) -> None:
        """Ends the process; the next template starts a new one."""
        with self._lock:
            if self._process:
                self._process.end()
            self._process = None

    def forget(self) -> None:
        """Lets go of the process in a forked one: it belongs to the one that forked."""
        if self._process:
            self._process.forget()
        self._lock, self._process = threading.Lock(), None


def _first(pieces: list[_Piece]) -> tuple[list[_Piece], list[_Piece]]:
    """As many pieces as one request has, and the others."""
    count, size = 0, 0
    for piece in pieces[:_PIECES]:
        size += len(piece.content)
        if count and size > _BYTES:
            break
        count += 1
    return pieces[:count], pieces[count:]


def _give_up_after(lost: int) -> None:
    if lost > _MOST_LOST:
        raise StageError(
            "the process that renders templates does not start, or is killed: is there memory left? "
            "FT_ASSETS_DEBUG=1 shows what it says"
        )


_RENDERER = Renderer()
atexit.register(_RENDERER.close)
os.register_at_fork(after_in_child=_RENDERER.forget)


def ask(
    kind: str, common: dict[str, Any], pieces: Sequence[Any], most_harm: int = 0
) -> list[Answer]:
    """Asks the process of this one: see `Renderer.ask`."""
    return _RENDERER.ask(kind, common, pieces, most_harm)
