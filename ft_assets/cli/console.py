"""The two consoles, and how rows are printed on them."""

from collections.abc import Iterator
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table

from ft_assets.files import visible

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def escape(text: str) -> str:
    """A text made safe to print: markup and control characters in it have no effect."""
    return escape_markup(visible(text))


def print_rows(title: str, columns: list[str], rows: list[dict[str, Any]]) -> None:
    """Prints rows as a table, without columns that are empty in every row.

    If the terminal is too narrow, the headings are put on several lines, then values of several words,
    and what is in the first column is folded; other values are never broken.
    """
    cells = {name: [str(row.get(name, "")) for row in rows] for name in columns}
    kept = [name for name in columns if any(cells[name])] or columns
    headings = {name: name.replace("_", " ") for name in kept}
    if _width(headings, cells) > out.width:
        headings = {name: heading.replace(" ", "\n") for name, heading in headings.items()}
    table = Table(title=escape(title), title_justify="left")
    for name in kept:
        words = [len(word) for cell in cells[name] for word in cell.split()]
        is_first = name == kept[0]
        table.add_column(
            headings[name],
            overflow="fold",
            no_wrap=not is_first and max(map(len, map(str.split, cells[name])), default=0) < 2,
            min_width=None if is_first else max(words, default=None),
        )
    for row in zip(*(cells[name] for name in kept), strict=True):
        table.add_row(*map(escape, row))
    out.print(table)


def _width(headings: dict[str, str], cells: dict[str, list[str]]) -> int:
    """The width of a table in which nothing is folded."""
    widest = (max(map(cell_len, [heading, *cells[name]])) for name, heading in headings.items())
    return sum(width + 3 for width in widest) + 1


_SHOWN_REASONS = 5


def left_out(path: str, reasons: list[str]) -> Iterator[str]:
    """What of a file was left out: its first few reasons, a line each."""
    for reason in reasons[:_SHOWN_REASONS]:
        yield f"{path}: left out: {reason}"
    if more := len(reasons[_SHOWN_REASONS:]):
        yield f"{path}: left out: {more:,} more; all are in rejected.parquet"


def print_answers(answers: dict[str, str]) -> None:
    """Prints what each model answered, under its name."""
    for name, answer in answers.items():
        out.print(f"[bold]{name}:[/] {escape(answer)}", soft_wrap=True)
