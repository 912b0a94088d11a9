"""How Dagster shows what a step prints, without four processes for it: a private name, as in `internals`.

Tried on Dagster 1.13.27.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

_POLL_SECONDS = 0.05


@contextmanager
def mirrored_by_threads() -> Iterator[None]:
    """Has a thread copy what a step prints from Dagster's file to the terminal, up to its last line.

    Dagster 1.13 starts `tail` for it, and a Python process that watches `tail`, for standard output and
    errors each; what `tail` has not read when it is killed is lost.
    """
    from dagster._core.execution import compute_logs

    before = compute_logs.tail_to_stream
    compute_logs.tail_to_stream = _copied
    try:
        yield
    finally:
        compute_logs.tail_to_stream = before


@contextmanager
def _copied(path: str, stream: Any) -> Iterator[tuple[None, None]]:
    """Copies what is written to `path` to where `stream` leads now."""
    try:
        to = os.dup(stream.fileno())
    except (OSError, AttributeError):  # as under a test's runner: there is nowhere to copy to
        yield None, None
        return
    over = Event()
    thread = Thread(target=_copy, args=(path, to, over), daemon=True)
    thread.start()
    try:
        yield None, None
    finally:
        over.set()
        thread.join()
        os.close(to)


def _copy(path: str, to: int, over: Event) -> None:
    with open(path, "rb", buffering=0) as file, suppress(OSError):  # noqa: PTH123 (nobody may read on)
        while True:
            is_last = over.is_set()
            while content := file.read(1 << 16):
                while content:
                    content = content[os.write(to, content) :]
            if is_last:
                return
            over.wait(_POLL_SECONDS)
