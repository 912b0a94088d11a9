"""The exclusive claims of one `ft-assets ui`: its port, and the instance folder that it serves."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from ft_assets.errors import UserError

_LOCK = "ui.lock"
"""A file in the instance folder: locked while a server runs, with its process id and address."""


def claim_port(host: str, port: int) -> socket.socket:
    """A socket that listens on the port (0: any free port). Raises UserError if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family)
    except OSError as error:
        holder = _listener(port)
        why = f"it is taken by {holder}" if holder else error.strerror or str(error)
        raise UserError(
            f"port {port} on {host} cannot be used: {why}. Choose another port with --port"
        ) from error
    except OverflowError as error:
        raise UserError(f"port {port} does not exist: choose one from 1 to 65535") from error


@contextmanager
def claimed_instance(home: Path, address: str) -> Iterator[TextIO]:
    """Locks the instance folder `home` and writes the server's process id and `address` into the lock.

    Yields the locked file: a process that inherits it holds the lock too. Raises UserError naming the
    other server if the folder is locked already.
    """
    with (home / _LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{home} is already served by {_server_of(home) or 'another ft-assets ui'}. Stop that "
                "one first, or set DAGSTER_HOME to another folder"
            ) from error
        except OSError as error:
            raise UserError(
                f"{home} cannot be locked ({error.strerror}): DAGSTER_HOME must be on a local disk"
            ) from error
        file.truncate(0)
        json.dump({"pid": os.getpid(), "address": address}, file)
        file.flush()
        yield file


def _server_of(home: Path) -> str | None:
    """The process and the address in the lock of an instance folder; None if it cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        said = json.loads((home / _LOCK).read_text())
        return f"ft-assets ui (process {int(said['pid'])}) on {said['address']}"
    return None


def _listener(port: int) -> str | None:
    """The process that listens on a port; None if this user may not see it."""
    import psutil

    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            listens = connection.status == psutil.CONN_LISTEN
            if listens and getattr(connection.laddr, "port", None) == port and connection.pid:
                process = psutil.Process(connection.pid)
                home = process.environ().get("DAGSTER_HOME")
                server = _server_of(Path(home)) if home else None
                return server or f"process {process.pid} ({process.name()})"
    return None
