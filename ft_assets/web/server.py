"""The process that owns the others of `ft-assets ui`: code server, daemon, and web application.

`python -m ft_assets.web.server HANDLE NAMES…`: HANDLE is a socket that listens, NAMES the hosts under
which a proxy serves it. The keeper starts it. It has the user's whole environment, as `ft-assets
refresh` has, and passes it to the code server alone, whose runs ask the providers. The web application
and the daemon get what the role `server` needs.
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
"""In the instance folder: what the server's processes need to find each other."""
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 10.0
"""How long the daemon and the web application have to end."""

Process = subprocess.Popen[bytes]


def serve(handle: int, proxied: list[str]) -> int:
    """Serves the project of the environment until interrupted; returns an exit code."""
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
    """Where the workspace file is written, and an empty folder to be the working directory."""
    folder = home / _FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "empty").mkdir(parents=True)
    return folder / "workspace.yaml", folder / "empty"


def _settle_in(nowhere: Path) -> None:
    """Makes the empty folder the working directory, and the first on the path of what is started.

    Dagster imports from its working directory and takes variables from a `.env` there. Loading a
    module it drops the first folder of the path, taking it for that of the script: under
    PYTHONSAFEPATH that would be the first of the user's PYTHONPATH.
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
    """Serves on the socket that the arguments name."""
    restrict("server")
    handle, *proxied = sys.argv[1:]
    with suppress(KeyboardInterrupt):
        sys.exit(serve(int(handle), proxied))


if __name__ == "__main__":
    main()
