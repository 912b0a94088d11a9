"""`show`: rows of a corpus's tables as a person reads them."""

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from ft_assets.cli.arguments import AsJson, Corpus, project_with
from ft_assets.cli.console import out
from ft_assets.cli.verb import Verbs
from ft_assets.files import visible

if TYPE_CHECKING:
    from ft_assets.engine.show import Row, Shown

verbs = Verbs()

_What = Literal["documents", "records", "chunks", "pairs", "train", "eval", "dropped", "rejected"]


@verbs.command()
def show(
    corpus: Corpus,
    what: Annotated[
        _What,
        typer.Argument(
            metavar="WHAT",
            show_choices=False,
            help="documents, records, chunks, pairs, train, eval, dropped (rows that are not in the "
            "dataset) or rejected (files of which something was left out).",
        ),
    ],
    rows: Annotated[
        int,
        typer.Option(
            "-n", min=1, max=1_000, metavar="NUMBER", help="How many rows to show, up to 1,000."
        ),
    ] = 5,
    grep: Annotated[
        str | None,
        typer.Option("--grep", metavar="TEXT", help="Only rows with this text, whatever its case."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--source", metavar="FILE", help="Only rows from this file of the corpus."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show rows of a corpus as a person reads them, with the file and page of each.

    Text that is trained is green; if there are no colours, marks in brackets say where it begins and ends.
    The rows are spread evenly over the table, always the same ones; with `--grep`, they are the first
    that contain the text. Reads what was built last; builds nothing.
    """
    from ft_assets.engine.show import show as shown_of

    found = shown_of(project_with(corpus), corpus, what, most=rows, grep=grep, source=source)
    if as_json:
        print(json.dumps(_json(found), default=str))
        return
    out.print(Text(_title(found, grep, source), style="bold"), soft_wrap=True)
    for row in found.rows:
        out.print(_head(row), soft_wrap=True)
        out.print(_text(row), soft_wrap=True)


def _json(found: "Shown") -> dict[str, object]:
    """The rows with all their values, and where each is from."""
    head = {name: getattr(found, name) for name in ("corpus", "what", "asset", "version")}
    rows = [
        {"place": vars(row.place) if row.place else None, "notes": row.notes, **row.values}
        for row in found.rows
    ]
    return {**head, "total": found.total, "matches": found.matches, "rows": rows}


_EMPTY = {
    "pairs": "none; they are generated if qa.enabled is true",
    "eval": "nothing is held out",
    "dropped": "no row was left out",
    "rejected": "nothing was left out",
}
"""What an empty table means."""


def _title(found: "Shown", grep: str | None, source: str | None) -> str:
    """Which rows these are, of how many."""
    from ft_assets.stages.words import counted

    shown, name = len(found.rows), f"{found.what} of {found.corpus}"
    wanted = f" from {visible(source)}" if source else ""
    wanted += f" with {visible(grep)!r}" if grep else ""
    one = "file" if found.what == "rejected" else "row"
    if not shown:
        if wanted:
            return f"{name}: no {one}{wanted}, of {counted(found.total, one)}"
        return f"{name}: {_EMPTY.get(found.what, 'no rows')}"
    if found.matches is None:
        first = one if shown == 1 else counted(shown, one)
        return f"{name}: the first {first}{wanted}; there are more"
    if found.matches > shown:
        return f"{name}: {shown:,} of {counted(found.matches, one)}{wanted}, evenly spread"
    return f"{name}: {'all ' if shown > 1 else ''}{counted(shown, one)}{wanted}"


def _head(row: "Row") -> Text:
    """Where a row is from, and what there is to say about it."""
    where, *notes = visible(row.heading).split(" · ", 1)
    return Text.assemble(
        "\n", (f"── {where}", "cyan"), ("".join(f" · {note}" for note in notes), "dim")
    )


def _text(row: "Row") -> Text:
    """The parts of a row: the trained ones green or marked, the others dim."""
    from ft_assets.engine.shown import as_text, shortened

    if not out.is_terminal or out.no_color:
        return Text(as_text(row.parts))
    found = Text()
    for part in row.parts:
        if part.label:
            found.append("\n" if found else "")
            found.append(f"{part.label}: ", "bold")
        style = "" if part.trained is None else "green" if part.trained else "dim"
        found.append(shortened(visible(part.text)), style)
    return found
