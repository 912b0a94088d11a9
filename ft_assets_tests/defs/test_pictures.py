"""The pictures of partition pages: true to their values, and short enough to be seen without a click."""

import re
import xml.etree.ElementTree as Xml
from urllib.parse import unquote

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets.defs.pictures import SHOWN_AT_ONCE, bars, histogram, loss_curve
from ft_assets.defs.svg import BOTTOM, LEFT, RIGHT, TOP

_NAME = "{http://www.w3.org/2000/svg}"
_BLUE, _PALE, _ORANGE = "#17b", "#bdf", "#e70"
Place = tuple[float, float]


def _drawn(picture: dg.MarkdownMetadataValue) -> Xml.Element:
    """The drawing that a page shows at once; Markdown ends an address at a space outside < and >."""
    text = picture.md_str or ""
    assert len(text) < SHOWN_AT_ONCE
    address = re.fullmatch(r"!\[[\w ]+\]\(<data:image/svg\+xml,([^<>\\&\"]*)>\)", text)
    assert address
    return Xml.fromstring(unquote(address[1]))


def _texts(drawing: Xml.Element) -> set[str | None]:
    return {each.text for each in drawing.iter(f"{_NAME}text")}


def _places(drawing: Xml.Element, colour: str) -> list[Place]:
    """Where the line or the area of a colour goes."""
    paths = [
        path.get("d") or ""
        for path in drawing.iter(f"{_NAME}path")
        if colour in (path.get("stroke"), path.get("fill"))
    ]
    return _walked(paths[0]) if paths else []


def _walked(path: str) -> list[Place]:
    x = y = 0.0
    found: list[Place] = []
    for command, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", path):
        values = [float(each) for each in re.findall(r"-?\d+", numbers)]
        if command == "M":
            x, y = values
        elif command == "V":
            y = values[0]
        elif command != "z":
            x += values[0] if command in "lh" else 0
            y += values[-1] if command in "lv" else 0
        found.append((x, y))
    return found


_LOSS = st.floats(0, 1e9) | st.floats(0, 20) | st.just(float("nan"))


@given(st.lists(_LOSS, max_size=400), st.lists(_LOSS, max_size=30))
def test_every_curve_is_short_and_stays_inside_its_axes(
    losses: list[float], held_out: list[float]
) -> None:
    steps = list(enumerate(losses, 1))
    drawing = _drawn(loss_curve(steps, [(7 * n, loss) for n, loss in enumerate(held_out)]))
    for colour in (_BLUE, _PALE, _ORANGE):
        for x, y in _places(drawing, colour):
            assert LEFT - 1 <= x <= RIGHT + 1
            assert TOP - 1 <= y <= BOTTOM + 1


@given(st.integers(1, 2_000), st.data())
def test_no_peak_is_lost_and_the_axis_holds_it(count: int, data: st.DataObject) -> None:
    peak = data.draw(st.integers(1, count))
    drawing = _drawn(loss_curve([(n, 9.0 if n == peak else 1.0) for n in range(1, count + 1)], []))
    assert min(y for _, y in _places(drawing, _PALE)) == TOP


def test_the_curve_is_smoothed_and_the_held_out_loss_is_beside_it() -> None:
    noisy = [(n, 2.0 + (1 if n % 2 else -1)) for n in range(1, 201)]
    drawing = _drawn(loss_curve(noisy, [(0, 3.0), (100, 1.0), (200, 2.0)]))
    middle = [y for _, y in _places(drawing, _BLUE)][3:-3]
    assert max(middle) - min(middle) < 0.1 * (BOTTOM - TOP)
    assert _places(drawing, _ORANGE) == [(LEFT, TOP), (161, 71), (RIGHT, 39)]
    assert {"training loss", "held-out loss", "step", "0", "100"} <= _texts(drawing)


def test_without_held_out_rows_there_is_one_name() -> None:
    assert "held-out loss" not in _texts(_drawn(loss_curve([(1, 2.0), (2, 1.0)], [])))


def test_one_step_is_a_dot() -> None:
    assert len(_places(_drawn(loss_curve([(1, 2.0)], [])), _BLUE)) == 2


def test_bars_are_as_high_as_values_are_many() -> None:
    values = {"train": [1.0] * 8 + [5.0] * 4 + [9.0] * 2, "eval": [5.0]}
    drawing = _drawn(histogram("lengths", "tokens", values))
    heights = {y for _, y in _places(drawing, _BLUE)}
    assert heights == {BOTTOM, TOP, (TOP + BOTTOM) / 2, TOP + 0.75 * (BOTTOM - TOP) - 0.5}
    assert min(y for _, y in _places(drawing, _ORANGE)) == round(BOTTOM - (BOTTOM - TOP) / 8)
    assert {"tokens", "train", "eval"} <= _texts(drawing)


@pytest.mark.parametrize("values", [{}, {"a": []}, {"a": [3]}, {"a": [0, 0], "b": []}])
def test_few_values_or_none_make_a_picture_too(values: dict[str, list[float]]) -> None:
    assert "x" in _texts(_drawn(histogram("lengths", "x", values)))


@given(
    st.dictionaries(
        st.sampled_from(["train", "eval"]), st.lists(st.integers(0, 100_000), max_size=200)
    )
)
def test_every_histogram_is_short(values: dict[str, list[float]]) -> None:
    _drawn(histogram("trained share", "% of a row's tokens trained on", values))


def test_names_cannot_add_to_the_picture() -> None:
    drawing = _drawn(histogram("lengths", "<script>", {"</svg>&lt;": [1.0, 2.0]}))
    assert {"<script>", "</svg>&lt;"} <= _texts(drawing)


def test_two_values_side_by_side() -> None:
    drawing = _drawn(bars("losses", "loss", {"base": 4.0, "tuned": 1.0, "broken": float("nan")}))
    assert min(y for _, y in _places(drawing, _BLUE)) == TOP
    assert {"base 4", "tuned 1", "broken nan"} <= _texts(drawing)
