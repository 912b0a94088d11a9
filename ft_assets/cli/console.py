"""The two consoles, and how rows are printed on them."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


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


def print_answers(answers: dict[str, str]) -> None:
    """Prints what each model answered, under its name."""
    for name, answer in answers.items():
        out.print(f"[bold]{name}:[/] {escape(answer)}", soft_wrap=True)
