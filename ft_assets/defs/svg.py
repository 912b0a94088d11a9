"""Drawings as SVG, written by hand in few characters: Dagster's pages hide a long picture behind a link."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

WIDTH, HEIGHT = 300, 120
"""In units of the drawing; places are whole numbers of them."""
_SHOWN_WIDTH = 480
"""In pixels: a wider picture is cut off on a laptop's screen."""
LEFT, RIGHT, TOP, BOTTOM = 26, 296, 8, 102
_LABEL = 56
"""The room for a name in the legend."""

Point = tuple[float, float]


class Scale(NamedTuple):
    """From the values between `low` and `high` to places in the drawing between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        """At most `most` round numbers between the two ends, none of them outside."""
        power = 10.0 ** math.floor(math.log10((self.high - self.low) / most))
        for step in (power * each for each in (1, 2, 2.5, 5, 10, 20)):
            first, last = math.ceil(self.low / step), math.floor(self.high / step)
            if last - first < most:
                return [number * step for number in range(first, last + 1)]
        return []


def across(low: float, high: float) -> Scale:
    """The scale of the horizontal axis; its ends are a little apart at least."""
    return Scale(*_apart(low, high), LEFT, RIGHT)


def up(high: float) -> Scale:
    """The scale of the vertical axis, from 0."""
    return Scale(*_apart(0, high), BOTTOM, TOP)


def _apart(low: float, high: float) -> tuple[float, float]:
    least = max(abs(low), abs(high)) * 1e-6
    return (low, high) if high - low > least else (low, low + max(2 * least, 1.0))


def drawing(parts: Iterable[str]) -> str:
    """The whole SVG. Its grey can be read on a light page and on a dark one."""
    size = f"viewBox='0 0 {WIDTH} {HEIGHT}' width='{_SHOWN_WIDTH}'"
    font = "font-family='arial' font-size='8' fill='#888'"
    return f"<svg xmlns='http://www.w3.org/2000/svg' {size} {font}>{''.join(parts)}</svg>"


def vertical_axis(y: Scale) -> Iterator[str]:
    """Lines across at round numbers, and the numbers."""
    lines = f"M{LEFT} {BOTTOM}H{RIGHT}"
    for value in y.ticks(3):
        lines += f"M{LEFT} {y(value):.0f}H{RIGHT}" if value else ""
        yield text(0, y(value) + 2, _number(value))
    yield f"<path stroke='#8886' d='{lines}'/>"


def horizontal_axis(x: Scale, label: str) -> Iterator[str]:
    """Round numbers below the drawing, and what they count."""
    for value in x.ticks(3):
        number = _number(value)
        yield text(min(x(value) - 2 * len(number), WIDTH - 4 * len(number)), BOTTOM + 8, number)
    yield text(LEFT, HEIGHT - 2, label)


def legend(colours: Mapping[str, str]) -> Iterator[str]:
    """The name of each series in its colour."""
    for number, (name, colour) in enumerate(colours.items()):
        yield text(RIGHT - _LABEL, TOP + 8 * number, name, colour)


def lines(series: Iterable[tuple[str, Sequence[Point]]]) -> Iterator[str]:
    """Lines, each a colour and the points of the drawing that it goes through; one point is a dot."""
    yield "<g fill='none'>"
    for colour, points in series:
        yield f"<path stroke='{colour}' d='{_path(points)}{'h1' if len(points) == 1 else ''}'/>"
    yield "</g>"


def area(points: Sequence[Point], colour: str) -> str:
    """The area between points of the drawing and the horizontal axis."""
    return f"<path fill='{colour}' fill-opacity='.7' d='{_path(points)}V{BOTTOM}z'/>"


def text(x: float, y: float, content: str, colour: str = "") -> str:
    """A text that begins at a place."""
    fill = f" fill='{colour}'" if colour else ""
    return f"<text x='{x:.0f}' y='{y:.0f}'{fill}>{escape(content, quote=False)}</text>"


def _path(points: Sequence[Point]) -> str:
    """The points as whole numbers, each counted from the one before."""
    whole = [(round(x), round(y)) for x, y in points]
    moves = (_move(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(whole))
    return f"M{whole[0][0]} {whole[0][1]}{''.join(moves)}"


def _move(x: int, y: int) -> str:
    if not y:
        return f"h{x}" if x else ""
    return f"l{x}{'' if y < 0 else ' '}{y}" if x else f"v{y}"


def _number(value: float) -> str:
    return f"{value:.4g}"
