"""`ui`: the guarded web server and Dagster's daemon."""

from typing import Annotated

import typer

from ft_assets.cli.verb import Verbs

verbs = Verbs()


@verbs.command()
def ui(
    port: Annotated[
        int, typer.Option(metavar="NUMBER", help="Port to listen on; 0 picks a free one.")
    ] = 3000,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on; anything but loopback needs --behind-proxy.",
        ),
    ] = "127.0.0.1",
    behind_proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Host name of your own proxy with TLS and a login. Repeatable.",
        ),
    ] = None,
) -> None:
    """Serve the web UI and run the sensors until interrupted.

    Prints the address with its token, which is new at each start. Ctrl-C stops the server and the runs
    that it started; a second Ctrl-C does not wait for them.
    """
    from ft_assets.extras import require

    require("ui", "ft-assets ui")
    from ft_assets.web.launch import launch

    raise typer.Exit(launch(host, port, behind_proxy or []))
