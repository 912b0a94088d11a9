"""The process that serves: Dagster's web application behind the guard, and its daemon beside it.

`python -m ft_assets.web.server HANDLE NAMES…`: HANDLE is a socket that listens, NAMES the hosts under
which a proxy serves it. The keeper starts it.
"""

import asyncio
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ft_assets.web.guard import LOOPBACK, MAX_BODY, Guard

if TYPE_CHECKING:
    from starlette.types import ASGIApp

DEFINITIONS = "ft_assets.definitions"
_FOLDER = "ui"
"""In the instance folder: what the server's processes need to find each other."""


def serve(listening: socket.socket, proxied: list[str]) -> int:
    """Serves the project of the environment until interrupted; returns an exit code.

    Prints the address, with the token of this start, once the server answers.
    """
    import dagster as dg

    from ft_assets.defs.instance import dagster_home
    from ft_assets.defs.internals import code_server, web_application
    from ft_assets.defs.runs import close_dead_runs

    port, token = listening.getsockname()[1], secrets.token_urlsafe(32)
    workspace, nowhere = _folders(dagster_home())
    _settle_in(nowhere)
    with dg.DagsterInstance.get() as instance:
        close_dead_runs(instance)
        with (
            code_server(instance, DEFINITIONS, nowhere, workspace),
            _daemon(workspace) as daemon,
            web_application(instance, workspace) as app,
        ):
            guard = Guard(app, token, port, proxied)
            addresses = [f"http://{LOOPBACK[0]}:{port}", *(f"https://{name}" for name in proxied)]
            greeting = [f"{address}/?token={token}" for address in addresses]
            return asyncio.run(_answer(guard, listening, daemon, greeting))


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
def _daemon(workspace: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs Dagster's daemon, which starts queued runs and evaluates sensors."""
    from ft_assets.defs.internals import daemon_command

    process = subprocess.Popen(daemon_command(workspace))
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


async def _answer(
    app: "ASGIApp",
    listening: socket.socket,
    daemon: "subprocess.Popen[bytes]",
    greeting: list[str],
) -> int:
    """Answers requests until interrupted, or until the daemon ends."""
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # it would hold the token
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws_max_size=MAX_BODY,
            timeout_graceful_shutdown=3,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not (server.started or serving.done()):
        await asyncio.sleep(0.05)
    _say(*greeting, "(Ctrl-C stops it, and the runs that it started)")
    while not serving.done():
        await asyncio.wait([serving], timeout=1)
        if daemon.poll() is not None and not server.should_exit:
            _say(f"error: the daemon ended (exit code {daemon.returncode}), so the server ends too")
            server.should_exit = True
            await serving
            return 3
    return 0


def _say(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def main() -> None:
    """Serves on the socket that the arguments name."""
    handle, *proxied = sys.argv[1:]
    with suppress(KeyboardInterrupt):
        sys.exit(serve(socket.socket(fileno=int(handle)), proxied))


if __name__ == "__main__":
    main()
