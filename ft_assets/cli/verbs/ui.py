"""`ui`: the guarded web server and Dagster's daemon."""

from typing import Annotated

import typer

verbs = typer.Typer()


@verbs.command()
def ui(
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 3000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond loopback only with --behind-proxy.")
    ] = "127.0.0.1",
    behind_proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Host name under which your own proxy, with TLS and a login, serves it. Repeatable.",
        ),
    ] = None,
) -> None:
    """Serve the web UI and run the sensors until interrupted; prints the address with its token."""
    from ft_assets.extras import require

    require("ui", "ft-assets ui")
    from ft_assets.web.launch import launch

    raise typer.Exit(launch(host, port, behind_proxy or []))
