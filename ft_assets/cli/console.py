"""The two consoles, and how rows are printed on them."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Column, Table

from ft_assets.files import visible

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def escape(text: str) -> str:
    """A text made safe to print: markup and control characters in it have no effect."""
    return escape_markup(visible(text))


def print_rows(title: str, columns: list[str], rows: list[dict[str, Any]]) -> None:
    """Prints rows as a table; a value too long for its column is folded, not cut."""
    table = Table(
        *(Column(name.replace("_", " "), overflow="fold") for name in columns),
        title=escape(title),
        title_justify="left",
    )
    for row in rows:
        table.add_row(*(escape(str(row.get(name, ""))) for name in columns))
    out.print(table)


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
