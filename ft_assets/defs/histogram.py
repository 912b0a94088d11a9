"""A histogram as SVG, written by hand: importing matplotlib costs more than making a small dataset."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 630, 315
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 615, 15, 265
_BINS = 30
_FILLED = 0.8
"""The part of a bin's width that its bars take."""
_COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728")
_MOST_TICKS = 8

_Scale = Callable[[float], float]
"""From a value to its place in the picture."""


def histogram_svg(label: str, values: Mapping[str, Sequence[float]]) -> str:
    """How often each value occurs, a series beside another, with axes and a legend."""
    low, high = _range(values)
    counts = {name: _counted(series, low, high) for name, series in values.items()}
    most = max((count for each in counts.values() for count in each), default=0) or 1
    across, up = _scale(low, high, _LEFT, _RIGHT), _scale(0, most, _BOTTOM, _TOP)
    parts = [*_lines(low, high, across, most, up), *_bars(counts, up), *_legend(list(values))]
    parts.append(_text((_LEFT + _RIGHT) / 2, _HEIGHT - 10, label))
    parts.append(_text(-(_TOP + _BOTTOM) / 2, 16, "count", ' transform="rotate(-90)"'))
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    font = 'font-family="sans-serif" font-size="12" text-anchor="middle" fill="#222"'
    background = '<rect width="100%" height="100%" fill="#fff"/>'
    inner = "".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>{background}{inner}</svg>'


def _range(values: Mapping[str, Sequence[float]]) -> tuple[float, float]:
    """The least and the greatest value, a little apart at least."""
    found = [series for series in values.values() if len(series)]
    low = float(min((min(series) for series in found), default=0))
    high = float(max((max(series) for series in found), default=1))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _counted(series: Sequence[float], low: float, high: float) -> list[int]:
    """How many values are in each bin; the greatest value is in the last."""
    counts = [0] * _BINS
    for value in series:
        counts[min(_BINS - 1, int((value - low) / (high - low) * _BINS))] += 1
    return counts


def _scale(low: float, high: float, start: float, end: float) -> _Scale:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _ticks(low: float, high: float) -> Iterator[float]:
    """Round numbers between two values."""
    power = 10.0 ** math.floor(math.log10((high - low) / _MOST_TICKS))
    steps = (power * step for step in (1, 2, 2.5, 5, 10, 20))
    step = next(step for step in steps if (high - low) / step <= _MOST_TICKS)
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        yield number * step


def _lines(low: float, high: float, across: _Scale, most: float, up: _Scale) -> Iterator[str]:
    """The grid with its numbers."""
    for value in _ticks(low, high):
        yield f'<path d="M{across(value):.1f} {_TOP}V{_BOTTOM}" stroke="#ddd"/>'
        yield _text(across(value), _BOTTOM + 16, f"{value:g}")
    for value in _ticks(0, most):
        yield f'<path d="M{_LEFT} {up(value):.1f}H{_RIGHT}" stroke="#ddd"/>'
        yield _text(_LEFT - 6, up(value) + 4, f"{value:g}", ' text-anchor="end"')
    yield f'<path d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}" stroke="#222" fill="none"/>'


def _bars(counts: Mapping[str, list[int]], up: _Scale) -> Iterator[str]:
    bin_width = (_RIGHT - _LEFT) / _BINS
    width = _FILLED * bin_width / max(1, len(counts))
    for number, (series, colour) in enumerate(zip(counts.values(), _COLOURS, strict=False)):
        for place, count in enumerate(series):
            if count:
                x = _LEFT + (place + (1 - _FILLED) / 2) * bin_width + number * width
                size = f'width="{width:.1f}" height="{_BOTTOM - up(count):.1f}"'
                yield f'<rect x="{x:.1f}" y="{up(count):.1f}" {size} fill="{colour}"/>'


def _legend(names: list[str]) -> Iterator[str]:
    for number, (name, colour) in enumerate(zip(names, _COLOURS, strict=False)):
        y = _TOP + 6 + 18 * number
        yield f'<rect x="{_RIGHT - 16}" y="{y}" width="12" height="12" fill="{colour}"/>'
        yield _text(_RIGHT - 22, y + 10, name, ' text-anchor="end"')


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{escape(text)}</text>'
