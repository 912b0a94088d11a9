"""`ui`: Dagster's web server and daemon."""

import sys
from typing import Annotated

import typer

from ft_assets.cli.console import err

verbs = typer.Typer()


@verbs.command()
def ui(port: Annotated[int, typer.Option(help="Port on loopback.")] = 3000) -> None:
    """Serve the Dagster web UI and its daemon on loopback until interrupted."""
    import dagster as dg

    from ft_assets.defs.instance import dagster_home, run_group
    from ft_assets.defs.runs import close_dead_runs

    dagster_home()
    with dg.DagsterInstance.get() as instance:
        close_dead_runs(instance)
    command = [sys.executable, "-W", "ignore", "-m", "dagster", "dev"]
    command += ["-m", "ft_assets.definitions", "-h", "127.0.0.1", "-p", str(port)]
    err.print(f"http://127.0.0.1:{port}  (Ctrl-C stops it, and the runs that it started)")
    raise typer.Exit(run_group(command))
