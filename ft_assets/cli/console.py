"""The two consoles, and how rows are printed on them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table

from ft_assets.files import visible

if TYPE_CHECKING:
    from ft_assets.cli.chat import Talk

out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)


def escape(text: str) -> str:
    """A text made safe to print: markup and control characters in it have no effect."""
    return escape_markup(visible(text))


def print_rows(title: str, columns: list[str], rows: list[dict[str, Any]]) -> None:
    """Prints rows as a table, without columns that are empty in every row.

    If the terminal is too narrow, the headings are put on several lines, then values of several words,
    and what is in the first column, such as a path, loses its middle; other values are never broken. If
    that is not enough, each row becomes a line.
    """
    cells = {name: [_cell(row.get(name, "")) for row in rows] for name in columns}
    numbers = {name for name in columns if all(type(row.get(name, 0)) is int for row in rows)}
    kept = [name for name in columns if any(cells[name])] or columns
    headings = {name: name.replace("_", " ") for name in kept}
    if _width(headings, cells) > out.width:
        headings = {name: heading.replace(" ", "\n") for name, heading in headings.items()}
    first, *others = kept
    room = out.width - _width({name: headings[name] for name in others}, cells, by_word=True) - 3
    if room < _SHORTEST:
        _print_lines(title, headings, cells)
        return
    cells[first] = [shortened(cell, room) for cell in cells[first]]
    table = Table(title=escape(title), title_justify="left")
    for name in kept:
        least = max((cell_len(word) for cell in cells[name] for word in cell.split()), default=None)
        one_word = all(len(cell.split()) < 2 for cell in cells[name])
        table.add_column(
            headings[name],
            no_wrap=one_word or name == first,
            min_width=least,
            justify="right" if name in numbers else "left",
        )
    for row in zip(*(cells[name] for name in kept), strict=True):
        table.add_row(*map(escape, row))
    out.print(table)


def _cell(value: Any) -> str:
    return f"{value:,}" if type(value) is int else str(value)


_SHORTEST = 16
"""A path is not shortened to fewer columns than this."""


def _print_lines(title: str, headings: dict[str, str], cells: dict[str, list[str]]) -> None:
    """Prints a table that is too wide as lines: the first value, then the others with their headings."""
    out.print(escape(title), style="italic", soft_wrap=True)
    first, *others = headings
    for number, value in enumerate(cells[first]):
        told = (f"{headings[name].replace(chr(10), ' ')} {cells[name][number]}" for name in others)
        out.print(f"{escape(value)}: {escape(', '.join(told))}", soft_wrap=True)


def shortened(text: str, room: int) -> str:
    """A text without its middle if it needs more columns than there are."""
    if cell_len(text) <= room:
        return text
    half = max(1, (room - 1) // 2)
    tail = set_cell_size(text[::-1], half).rstrip()[::-1]
    return f"{set_cell_size(text, room - 1 - half).rstrip()}…{tail}"


def _width(headings: dict[str, str], cells: dict[str, list[str]], *, by_word: bool = False) -> int:
    """The width of a table in which nothing is folded, or in which no word is."""

    def width(text: str) -> int:
        return max(map(cell_len, text.split() if by_word else text.split("\n")), default=0)

    widest = (max(map(width, [heading, *cells[name]])) for name, heading in headings.items())
    return sum(each + 3 for each in widest) + 1


_SHOWN_REASONS = 5


def left_out(path: str, reasons: list[str]) -> Iterator[str]:
    """What of a file was left out: its most frequent reasons, a line each."""
    from ft_assets.engine.reasons import grouped
    from ft_assets.stages.words import counted

    found = grouped(reasons)
    for reason in found[:_SHOWN_REASONS]:
        yield f"{path}: left out: {reason}"
    if more := len(found[_SHOWN_REASONS:]):
        reasons_left = counted(more, "more reason")
        yield f"{path}: left out: {reasons_left}; ft-assets show CORPUS rejected --json lists all"


def print_answers(talks: "dict[str, Talk]", question: str) -> None:
    """Prints what each model answers, under its name, as it comes."""
    for name, talk in talks.items():
        pieces = talk.answer(question)
        out.print(f"[bold]{name}:[/] ", end="")
        for piece in pieces:
            out.print(escape(piece), end="", soft_wrap=True)
        out.print()
