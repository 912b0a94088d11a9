"""`doctor`: what works on this machine, and what is missing."""

import json
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from ft_assets.cli.arguments import AsJson
from ft_assets.cli.console import out
from ft_assets.cli.verb import Verbs

if TYPE_CHECKING:
    from ft_assets.engine.doctor.line import Line

_COLOURS = {"ok": "green", "missing": "red", "note": "yellow", "optional": "cyan"}

verbs = Verbs()


@verbs.command()
def doctor(as_json: AsJson = False) -> None:
    """Check this machine: what works, what is missing, and what you lose without it.

    Exits with 1 if the project cannot work here.
    """
    from ft_assets.engine.doctor.report import is_enough, report, verdict

    lines = report()
    enough = is_enough(lines)
    if as_json:
        print(json.dumps({"enough": enough, "lines": [vars(line) for line in lines]}))
    else:
        for line in lines:
            _print_line(line)
        out.print(f"\n{escape(verdict(lines))}", soft_wrap=True)
    if not enough:
        raise typer.Exit(1)


def _print_line(line: "Line") -> None:
    state = f"[{_COLOURS[line.state]}]{line.state:9}[/]"
    cost = f" [dim]→[/] {escape(line.cost)}" if line.cost else ""
    out.print(f"{state}{line.name:17} {escape(line.found)}{cost}", soft_wrap=True)
