"""Pictures for partition pages: what one looks at rather than reads."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from ft_assets.defs.histogram import histogram_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _picture(name: str, kind: str, content: bytes) -> dg.MarkdownMetadataValue:
    encoded = base64.b64encode(content).decode()
    return dg.MetadataValue.md(f"![{name}](data:image/{kind};base64,{encoded})")


def _draw(name: str, draw: "Callable[[Axes], None]") -> dg.MarkdownMetadataValue:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.add_subplot()
    draw(axes)
    axes.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=90)
    return _picture(name, "png", picture.getvalue())


def curve(
    name: str, x: tuple[str, Sequence[float]], y: tuple[str, Sequence[float]]
) -> dg.MarkdownMetadataValue:
    """`y` over `x`, each a label and its values."""

    def draw(axes: "Axes") -> None:
        axes.plot(x[1], y[1])
        axes.set(xlabel=x[0], ylabel=y[0], ylim=(0, None))

    return _draw(name, draw)


def histogram(
    name: str, label: str, values: Mapping[str, Sequence[float]]
) -> dg.MarkdownMetadataValue:
    """How often each value occurs, a series beside another."""
    return _picture(name, "svg+xml", histogram_svg(label, values).encode())


def bars(name: str, label: str, values: dict[str, float]) -> dg.MarkdownMetadataValue:
    """A bar for each value, with its number."""

    def draw(axes: "Axes") -> None:
        axes.bar_label(axes.bar(list(values), list(values.values())), fmt="%.4g")
        axes.set(ylabel=label)

    return _draw(name, draw)
