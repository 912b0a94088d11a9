"""The command line: every verb selects assets and runs them, or reads manifests.

A verb is a file in `cli/verbs/` and a name in the list below. Importing this package loads only
typer and rich: a verb imports what it works with when it runs.
"""

import os
import sys
import traceback
from typing import Annotated

import typer

from ft_assets import __version__
from ft_assets.cli.console import err, escape
from ft_assets.cli.verb import Verbs
from ft_assets.cli.verbs import (
    artifacts,
    chat,
    demo,
    doctor,
    init,
    lineage,
    pairs,
    refresh,
    show,
    status,
    ui,
    validate,
)
from ft_assets.errors import StageError, UserError, exit_code

EXIT_CODES = {
    0: "done",
    1: "your input is wrong",
    2: "wrong usage of the command line",
    3: "a stage failed, or an artifact is damaged",
    4: "a batch is pending: run the command again later",
    130: "interrupted",
}

app = Verbs(
    help="Make for fine-tuned models: a folder of documents in, a tuned model out.",
    epilog=f"Exit codes: {'; '.join(f'{code} {means}' for code, means in EXIT_CODES.items())}.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
every = (init, validate, status, refresh, show, pairs, lineage, artifacts, chat, doctor, ui, demo)
for verb in every:
    app.add_typer(verb.verbs)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"ft-assets {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Options that come before the verb."""
    os.environ["FT_ASSETS_DEBUG"] = "1" if debug else ""


def main() -> None:
    """Runs the command line; an expected error is printed as one message, with an exit code."""
    try:
        app()
    except (UserError, StageError) as error:
        if os.environ.get("FT_ASSETS_DEBUG"):
            traceback.print_exc()
        err.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(exit_code(error))
    except Exception as error:
        if os.environ.get("FT_ASSETS_DEBUG"):
            traceback.print_exc()
        what = escape(f"{type(error).__name__}: {error}")
        err.print(f"[red]internal error:[/] {what} (ft-assets --debug shows where)")
        sys.exit(3)
