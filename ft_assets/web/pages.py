"""The process that answers browsers: Dagster's web application behind the guard.

`python -m ft_assets.web.pages HANDLE WORKSPACE NAMES…`: HANDLE is a listening socket, WORKSPACE the file
that names the code server, NAMES the hosts under which a proxy serves it. This process has no
provider's key, because the code server starts the runs.
"""

import asyncio
import secrets
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ft_assets.web.guard import LOOPBACK, MAX_BODY, Guard

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def serve(listening: socket.socket, workspace: Path, proxied: list[str]) -> None:
    """Serves the web application until interrupted.

    Prints the address, with a new token, once it answers.
    """
    import dagster as dg

    from ft_assets.defs.internals import asset_graph_page, web_application

    port, token = listening.getsockname()[1], secrets.token_urlsafe(32)
    addresses = [f"http://{LOOPBACK[0]}:{port}", *(f"https://{name}" for name in proxied)]
    greeting = [f"{address}/?token={token}" for address in addresses]
    with dg.DagsterInstance.get() as instance, web_application(instance, workspace) as app:
        guard = Guard(app, token, port, proxied, asset_graph_page())
        asyncio.run(_answer(guard, listening, greeting))


async def _answer(app: "ASGIApp", listening: socket.socket, greeting: list[str]) -> None:
    """Answers requests until interrupted."""
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # it would contain the token
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
    if server.started:
        lines = [*greeting, "(Ctrl-C stops the server and the runs that it started)"]
        print(*lines, sep="\n", file=sys.stderr, flush=True)
    await serving


def main() -> None:
    """Serves on the socket in the arguments."""
    handle, workspace, *proxied = sys.argv[1:]
    with suppress(KeyboardInterrupt):
        serve(socket.socket(fileno=int(handle)), Path(workspace), proxied)


if __name__ == "__main__":
    main()
