"""Who may publish an artifact: one holder at a time, known by a token.

    <home>/lease.json          token and run of the holder; not there while nobody makes the artifact
    <home>/.holder-<token>     locked by the holder's process as long as it lives, however it dies
    <home>/.guard              locked for the moments in which a lease changes, or is published under

A lease is taken over when its holder is dead, or when its run was given up: a process that lives on
after that finds another token, or none, and cannot publish. Importable without Dagster.
"""

import fcntl
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ft_assets.errors import StageError

_LEASE = "lease.json"
_POLL_SECONDS = 0.2

IsOver = Callable[[str], bool]
"""Whether the run of this id has come to its end, as whoever keeps the runs knows."""
OnWait = Callable[[str], None]
"""Takes the id of the run that is waited for, when waiting for it begins."""


class LostLeaseError(StageError):
    """The run of this process was given up, so it may not publish."""


@dataclass(frozen=True)
class Lease:
    """The right to publish one artifact."""

    home: Path
    token: str
    run_id: str

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Nobody can take the lease over inside this block.

        Raises LostLeaseError if somebody has.
        """
        with _guard(self.home):
            now = _read(self.home)
            if now is None or now.token != self.token:
                raise LostLeaseError(
                    f"{self.home}: run {self.run_id or '(none)'} was given up while it worked on "
                    "this artifact, so what it made is not published"
                )
            yield

    def is_alive(self) -> bool:
        """Whether the process that took the lease is there still."""
        try:
            with self._holder.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    @property
    def _holder(self) -> Path:
        return self.home / f".holder-{self.token}"


@contextmanager
def hold(
    home: Path, run_id: str, is_over: IsOver, on_wait: OnWait = lambda run_id: None
) -> Iterator[Lease]:
    """Takes the lease of the artifact in `home`.

    Waits while a living holder, whose run is not over, has it; `on_wait` is called once for each.
    """
    home.mkdir(parents=True, exist_ok=True)
    lease = Lease(home, secrets.token_hex(8), run_id)
    with ExitStack() as stack:
        with _guard(home):  # else it could be taken for a dead one's before it is locked
            file = stack.enter_context(lease._holder.open("w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            waited_for = ""
            while other := _take(lease, is_over):
                if other.token != waited_for:
                    waited_for = other.token
                    on_wait(other.run_id)
                time.sleep(_POLL_SECONDS)
            yield lease
        finally:
            with _guard(home):
                now = _read(home)
                if now and now.token == lease.token:
                    (home / _LEASE).unlink()
            lease._holder.unlink(missing_ok=True)


def _take(lease: Lease, is_over: IsOver) -> Lease | None:
    """Takes the lease, or returns the one that stands in its way."""
    with _guard(lease.home):
        now = _read(lease.home)
        if now and now.is_alive() and not (now.run_id and is_over(now.run_id)):
            return now
        for left in lease.home.glob(".holder-*"):
            if not Lease(lease.home, left.name.removeprefix(".holder-"), "").is_alive():
                left.unlink(missing_ok=True)
        written = lease.home / f".{_LEASE}-{lease.token}"
        written.write_text(json.dumps({"token": lease.token, "run_id": lease.run_id}))
        written.replace(lease.home / _LEASE)
        return None


def holder(home: Path) -> Lease | None:
    """The lease that a living process has on the artifact in `home`."""
    now = _read(home)
    return now if now and now.is_alive() else None


def _read(home: Path) -> Lease | None:
    try:
        said = json.loads((home / _LEASE).read_text())
        return Lease(home, said["token"], said["run_id"])
    except (OSError, ValueError, KeyError):  # not there, or torn by a power cut: nobody's
        return None


@contextmanager
def _guard(home: Path) -> Iterator[None]:
    with (home / ".guard").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
