"""Pictures for partition pages: what one looks at rather than reads.

A picture is in the metadata itself, so it needs no server of ours and outlives the artifact. Each is
drawn in as much detail as the page still shows without a click.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from urllib.parse import quote

import dagster as dg

from ft_assets.defs import svg
from ft_assets.defs.svg import BOTTOM, LEFT, RIGHT, Point, Scale

SHOWN_AT_ONCE = 1_000
"""Dagster's pages hide Markdown of as many characters behind a link."""
_DETAILS = (120, 96, 90, 80, 70, 60, 56, 48, 42, 36, 30, 28, 24, 20, 16, 12, 8, 4)
_FINEST = 5040
"""Bins that values are counted in once; half of each detail divides it."""
_COLOURS = ("#17b", "#e70", "#2a2", "#d22")
_PALE = "#bdf"
_SMOOTHED = 10
"""A line is smoothed over a tenth of its points."""


def _picture(name: str, draw: Callable[[int], str]) -> dg.MarkdownMetadataValue:
    """The drawing with the most detail that is short enough."""
    found = ""
    for detail in _DETAILS:
        encoded = quote(draw(detail), safe=" '/:=.,-+()")
        found = f"![{name}](<data:image/svg+xml,{encoded}>)"
        if len(found) < SHOWN_AT_ONCE:
            break
    return dg.MetadataValue.md(found)


def loss_curve(losses: Sequence[Point], held_out: Sequence[Point]) -> dg.MarkdownMetadataValue:
    """The training loss, smoothed, over the range that it varied in; and the loss on held-out rows.

    Both are steps with their losses. The axis begins at 0 and every loss is on it.
    """
    training, others = _finite(losses), _finite(held_out)
    known = [*training, *others]
    x = svg.across(
        min((step for step, _ in known), default=0), max((s for s, _ in known), default=1)
    )
    y = svg.up(max((loss for _, loss in known), default=1))
    drawn = {"training loss": _COLOURS[0], "held-out loss": _COLOURS[1]}
    names = [name for name, points in zip(drawn, (training, others), strict=True) if points]
    smoothed = _smoothed(training)

    def draw(detail: int) -> str:
        series = [
            (_PALE, _ranges(training, detail // 2)),
            (_COLOURS[0], _thinned(smoothed, detail // 2)),
            (_COLOURS[1], _thinned(others, detail // 2)),
        ]
        placed = [
            (colour, [(x(a), y(b)) for a, b in points]) for colour, points in series if points
        ]
        axes = (*svg.vertical_axis(y), *svg.horizontal_axis(x, "step"))
        legend = svg.legend({name: drawn[name] for name in names})
        return svg.drawing([*axes, *svg.lines(placed), *legend])

    return _picture("loss curve", draw)


def _finite(points: Sequence[Point]) -> list[Point]:
    return [point for point in points if math.isfinite(point[1])]


def _smoothed(points: Sequence[Point]) -> list[Point]:
    """The mean of the points around each one; fewer of them near the ends."""
    reach = len(points) // _SMOOTHED // 2
    sums = [0.0, *accumulate(value for _, value in points)]
    found = []
    for place, (step, _) in enumerate(points):
        near = min(reach, place, len(points) - 1 - place)
        whole = sums[place + near + 1] - sums[place - near]
        found.append((step, whole / (2 * near + 1)))
    return found


def _thinned(points: Sequence[Point], most: int) -> list[Point]:
    """At most `most` points, with the first and the last one."""
    if len(points) <= most:
        return list(points)
    return [points[round(n * (len(points) - 1) / (most - 1))] for n in range(most)]


def _ranges(points: Sequence[Point], most: int) -> list[Point]:
    """The least and the greatest of each of `most` groups of points, so that no peak is lost."""
    if len(points) <= 2 * most:
        return list(points)
    found: list[Point] = []
    for n in range(most):
        group = points[n * len(points) // most : (n + 1) * len(points) // most]
        ends = (min(group, key=lambda point: point[1]), max(group, key=lambda point: point[1]))
        found += sorted(ends)
    return found


def histogram(
    name: str, label: str, values: Mapping[str, Sequence[float]]
) -> dg.MarkdownMetadataValue:
    """How often each value occurs, one series before another."""
    found = [series for series in values.values() if len(series)]
    low = float(min((min(series) for series in found), default=0))
    high = float(max((max(series) for series in found), default=1))
    x = svg.across(low, high)
    counted = {key: _counted(series, x) for key, series in values.items()}

    def draw(detail: int) -> str:
        counts = {key: _joined(fine, detail // 2) for key, fine in counted.items()}
        y = svg.up(max((count for each in counts.values() for count in each), default=0) or 1)
        colours = dict(zip(counts, _COLOURS, strict=False))
        areas = [svg.area(_outline(counts[key], y), colour) for key, colour in colours.items()]
        axes = (*svg.vertical_axis(y), *svg.horizontal_axis(x, label))
        return svg.drawing([*axes, *areas, *svg.legend(colours)])

    return _picture(name, draw)


def _counted(series: Sequence[float], x: Scale) -> list[int]:
    """How many values are in each of the finest bins; the greatest value is in the last."""
    counts = [0] * _FINEST
    for value in series:
        counts[min(_FINEST - 1, int((value - x.low) / (x.high - x.low) * _FINEST))] += 1
    return counts


def _joined(counts: list[int], bins: int) -> list[int]:
    """The counts of fewer bins."""
    size = _FINEST // bins
    return [sum(counts[n * size : (n + 1) * size]) for n in range(bins)]


def _outline(counts: list[int], y: Scale) -> list[Point]:
    width = (RIGHT - LEFT) / len(counts)
    found: list[Point] = [(LEFT, BOTTOM)]
    for place, count in enumerate(counts):
        if y(count) != found[-1][1]:
            found += [(LEFT + place * width, found[-1][1]), (LEFT + place * width, y(count))]
    return [*found, (RIGHT, found[-1][1])]


def bars(name: str, label: str, values: Mapping[str, float]) -> dg.MarkdownMetadataValue:
    """A bar for each value, with its number; none for what is not a number."""
    y = svg.up(max(filter(math.isfinite, values.values()), default=1) or 1)
    room = (RIGHT - LEFT) / max(1, len(values))

    def draw(detail: int) -> str:
        parts = [*svg.vertical_axis(y), svg.text(LEFT, svg.HEIGHT - 2, label)]
        for number, (key, value) in enumerate(values.items()):
            left, top = LEFT + (number + 0.2) * room, y(value) if math.isfinite(value) else BOTTOM
            right = left + 0.6 * room
            corners = [(left, BOTTOM), (left, top), (right, top)]
            parts.append(svg.area(corners, _COLOURS[number % len(_COLOURS)]))
            parts.append(svg.text(left, BOTTOM + 8, f"{key} {value:.4g}"))
        return svg.drawing(parts)

    return _picture(name, draw)
