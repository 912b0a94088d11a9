"""The process that starts the others of `ft-assets ui`: code server, daemon and web application.

`python -m ft_assets.web.server HANDLE NAMES…`: HANDLE is a listening socket, NAMES the hosts under which
a proxy serves it. The keeper starts it. It has the user's whole environment, like `ft-assets refresh`,
and passes it only to the code server, whose runs ask the providers. The web application and the daemon
get only what the role `server` needs, because they answer requests.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ft_assets.children import python, restrict, start

DEFINITIONS = "ft_assets.definitions"
_FOLDER = "ui"
"""A folder in the instance folder: the files by which the server's processes find each other."""
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 10.0
"""How long the daemon and the web application may take to end."""

Process = subprocess.Popen[bytes]


def serve(handle: int, proxied: list[str]) -> int:
    """Serves the project that the environment names until interrupted; returns an exit code."""
    import dagster as dg

    from ft_assets.defs.instance import dagster_home, referenced_variables
    from ft_assets.defs.internals import code_server, daemon_command
    from ft_assets.defs.runs import close_dead_runs

    home = dagster_home()
    workspace, nowhere = _folders(home)
    _settle_in(nowhere)
    more = {**referenced_variables(home), "PYTHONWARNINGS": "ignore"}
    pages = python("ft_assets.web.pages", str(handle), str(workspace), *proxied)
    with dg.DagsterInstance.get() as instance:
        close_dead_runs(instance)
        with (
            code_server(instance, DEFINITIONS, nowhere, workspace),
            _running(daemon_command(workspace), nowhere, more) as daemon,
            _running(pages, nowhere, more, handle) as web,
        ):
            os.close(handle)
            return _wait(daemon, web)


def _folders(home: Path) -> tuple[Path, Path]:
    """The path of the workspace file, and an empty folder to use as working directory."""
    folder = home / _FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "empty").mkdir(parents=True)
    return folder / "workspace.yaml", folder / "empty"


def _settle_in(nowhere: Path) -> None:
    """Makes the empty folder the working directory, and the first folder in PYTHONPATH.

    Dagster imports from its working directory and reads variables from a `.env` there. When it loads a
    module, it drops the first folder of the path, assuming that it is the script's: with
    PYTHONSAFEPATH that would be the first folder in the user's PYTHONPATH.
    """
    os.chdir(nowhere)
    own = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(nowhere), *([own] if own else [])])


@contextmanager
def _running(
    command: list[str], nowhere: Path, more: dict[str, str], *handles: int
) -> Iterator[Process]:
    """Runs a server's process, which inherits the file descriptors `handles`, until the block ends."""
    process = start("server", command, str(nowhere), more, pass_fds=handles)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(daemon: Process, web: Process) -> int:
    """Waits until the web application or the daemon ends; returns the server's exit code."""
    while web.poll() is None and daemon.poll() is None:
        time.sleep(_POLL_SECONDS)
    if web.poll() is not None:
        return web.returncode
    ended = f"error: the daemon ended (exit code {daemon.returncode}), so the server ends too"
    print(ended, file=sys.stderr, flush=True)
    return 3


def main() -> None:
    """Serves on the socket in the arguments."""
    restrict("server")
    handle, *proxied = sys.argv[1:]
    with suppress(KeyboardInterrupt):
        sys.exit(serve(int(handle), proxied))


if __name__ == "__main__":
    main()
