"""The histogram that partition pages show."""

import re
import xml.etree.ElementTree as Xml

import pytest

from ft_assets.defs.histogram import histogram_svg

_TAG = "{http://www.w3.org/2000/svg}"


def _texts(svg: str) -> list[str | None]:
    return [each.text for each in Xml.fromstring(svg).iter(f"{_TAG}text")]


def _heights(svg: str, colour: str) -> list[float]:
    found = re.findall(rf'y="[\d.]+" width="[\d.]+" height="([\d.]+)" fill="{colour}"', svg)
    return [float(height) for height in found][:-1]  # the last one is the legend's


def test_bars_are_as_high_as_values_are_many() -> None:
    svg = histogram_svg("tokens", {"train": [1] * 8 + [5] * 4 + [9] * 2, "eval": [5]})
    assert _heights(svg, "#1f77b4") == [250, 125, 62.5]
    assert _heights(svg, "#ff7f0e") == pytest.approx([31.25], abs=0.1)
    assert {"tokens", "count", "train", "eval", "1", "5", "9"} <= set(_texts(svg))


@pytest.mark.parametrize("values", [{}, {"a": []}, {"a": [3]}, {"a": [0, 0], "b": []}])
def test_few_values_or_none_make_a_picture_too(values: dict[str, list[float]]) -> None:
    assert "x" in _texts(histogram_svg("x", values))


def test_names_cannot_add_to_the_picture() -> None:
    svg = histogram_svg("<script>", {"</svg>": [1.0, 2.0]})
    assert {"<script>", "</svg>"} <= set(_texts(svg))
