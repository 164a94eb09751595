"""Charts: the places of their marks, the words in them, and what a browser gets to read."""

import math
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from vprep.page import raster, svg
from vprep.page.axis import axis, number
from vprep.page.bars import Bar, bar_chart, binned, histogram
from vprep.page.chart import Level, Series, line_chart, smoothed
from vprep.page.figure import Box, Figure, Label, Line, fitted
from vprep.page.html import text_of

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>alert('1')</script>\n\"&\x1b[2J"


def chart(*series: Series, **more: object) -> Figure:
    return line_chart(series, title="Loss", x_label="step", y_label="loss", **more)  # type: ignore[arg-type]


def curves(figure: Figure) -> list[Line]:
    """Return the lines of the series, not those of the axes or the legend."""
    return [
        mark for mark in figure.marks if isinstance(mark, Line) and mark.colour is not None and len(mark.points) > 2
    ]


def texts(figure: Figure) -> list[str]:
    return [mark.text for mark in figure.marks if isinstance(mark, Label)]


@pytest.mark.parametrize(
    ("values", "marks"),
    [
        ([0.13, 0.97], (0, 0.2, 0.4, 0.6, 0.8, 1)),
        ([0, 4321], (0, 1000, 2000, 3000, 4000, 5000)),
        ([-3, 2], (-3, -2, -1, 0, 1, 2)),
        ([7, 7], (2, 4, 6, 8, 10, 12)),
        ([0.1, None, math.nan, 0.3], (0.1, 0.15, 0.2, 0.25, 0.3)),
        ([], (0, 0.2, 0.4, 0.6, 0.8, 1)),
    ],
)
def test_an_axis_has_round_marks_around_its_values(values: list[float | None], marks: tuple[float, ...]) -> None:
    assert axis(values).ticks == marks


def test_an_exact_axis_ends_at_its_values_and_has_its_marks_between() -> None:
    found = axis([3, 97], exact=True)
    assert (found.low, found.high, found.ticks) == (3, 97, (20, 40, 60, 80))


def test_a_logarithmic_axis_gives_each_power_the_same_room_and_none_to_zero() -> None:
    found = axis([0, 0.003, 80], log=True)
    assert (found.low, found.high) == (0.001, 100)
    assert [found.share(value) for value in (0.001, 0.1, 100)] == pytest.approx([0, 0.4, 1])
    assert not found.holds(0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.25, "0.25"), (12345, "12,345"), (3e-7, "3e-7"), (0, "0"), (2.5e9, "2.5e9"), (-0.00001, "-1e-5")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_a_line_goes_through_its_values_in_pixels() -> None:
    (line,) = curves(chart(Series(name="a", x=[0, 5, 10], y=[0, 1, 0.5])))
    (x0, y0), (x1, y1), (x2, y2) = line.points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(2 * (y2 - y1), abs=0.4)


def test_a_gap_is_not_joined_and_a_lonely_value_is_a_dot() -> None:
    figure = chart(
        Series(name="a", x=range(50), y=[None if 20 <= x < 30 or x in (40, 42) else 1.0 * x for x in range(50)])
    )
    assert [len(line.points) for line in curves(figure)] == [20, 10, 7]
    assert text_of(svg.element(figure)).count("<circle") == 1


def test_a_line_of_many_points_keeps_its_extremes_and_few_points() -> None:
    values = [float(x % 7) for x in range(100_000)]
    values[77_777] = 50.0
    (line,) = curves(chart(Series(name="a", x=range(100_000), y=values)))
    assert len(line.points) < 4 * 640
    heights = sorted(y for _, y in line.points)
    assert heights[1] - heights[0] > 100


def test_a_smoothed_line_is_drawn_over_the_values() -> None:
    faint, smooth = curves(chart(Series(name="a", x=[1, 2, 3], y=[0, 1, 0], smooth=0.5)))
    assert (faint.opacity, smooth.opacity) == (0.35, 1.0)
    assert smoothed([0, 1, None, 0], 0.5) == [0, pytest.approx(2 / 3), None, pytest.approx(2 / 7)]


def test_lines_differ_in_dashes_and_are_named_at_their_ends_and_in_the_legend() -> None:
    figure = chart(*(Series(name=name, x=[0, 1, 2], y=[1, 2, 3]) for name in "abc"))
    assert len({line.dash for line in curves(figure)}) == 3
    assert [texts(figure).count(name) for name in "abc"] == [2, 2, 2]
    heights = sorted(mark.at[1] for mark in figure.marks if isinstance(mark, Label) and mark.colour is not None)
    assert min(np.diff(heights)) >= 14


def test_a_level_is_marked_and_named() -> None:
    figure = chart(Series(name="a", x=[0, 1], y=[0.3, 0.9]), levels=[Level(name="chance", value=0.25)])
    assert texts(figure).count("chance") == 1


def test_a_chart_says_in_words_where_its_lines_begin_and_end() -> None:
    root = ElementTree.fromstring(svg.document(chart(Series(name="a", x=[0, 9], y=[2.5, 0.5]))))  # noqa: S314  ours
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == "Loss"
    assert root.findtext(f"{SVG}desc") == "loss over step. a: 2.5 at 0, 0.5 at 9."


def test_text_of_strangers_is_never_markup() -> None:
    figures = [
        line_chart([Series(name=HOSTILE, x=[0, 1], y=[0, 1])] * 2, title=HOSTILE, x_label=HOSTILE, y_label=HOSTILE),
        bar_chart([Bar(name=HOSTILE, value=1)], title=HOSTILE, value_label=HOSTILE),
    ]
    for figure in figures:
        root = ElementTree.fromstring(svg.document(figure))  # noqa: S314  ours
        assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
            *("svg", "title", "desc", "style", "polyline", "rect", "circle", "text"),
        }
        assert root.findtext(f"{SVG}title") == "<script>alert('1')</script>\\n\"&\\x1b[2J"


def test_charts_without_values_are_drawn() -> None:
    for figure in (
        chart(),
        bar_chart([], title="t", value_label="v"),
        histogram(*binned(np.zeros(0)), title="t", x_label="x", y_label="y"),
    ):
        assert svg.document(figure).startswith(b"<?xml")
        assert raster.png(figure).startswith(b"\x89PNG")


def test_bars_begin_at_zero_and_show_value_and_interval() -> None:
    figure = bar_chart(
        [Bar(name="a", value=0.5, low=0.4, high=0.7), Bar(name="b", value=-0.25)], title="t", value_label="v"
    )
    first, second = (mark for mark in figure.marks if isinstance(mark, Box))
    assert first.width == pytest.approx(2 * second.width, abs=0.4)
    assert second.at[0] + second.width == pytest.approx(first.at[0], abs=0.2)
    assert "0.5 (0.4 to 0.7)" in texts(figure)


def test_bins_have_round_edges_and_hold_all_values() -> None:
    edges, counts = binned(np.array([0.0, 0.26, 0.9, 9.99, math.inf]), most=11)
    assert (edges, sum(counts)) == (list(range(11)), 4)


def test_a_histogram_is_as_high_as_its_counts() -> None:
    figure = histogram([0, 1, 2], [10, 20], title="t", x_label="x", y_label="y")
    first, second = (mark for mark in figure.marks if isinstance(mark, Box))
    assert second.height == pytest.approx(2 * first.height, abs=0.3)


def test_a_long_name_loses_its_middle() -> None:
    short = fitted("rspnet-20261127-101112-seed1", 100)
    assert len(short) * 13 * 0.6 <= 100
    assert (short[:3], short[-3:]) == ("rsp", "ed1")


def test_the_png_shows_the_colours_of_lines_and_their_dashes() -> None:
    series = [Series(name=name, x=[0, 1, 2], y=[place, place, place]) for place, name in enumerate("ab")]
    picture = cv2.imdecode(np.frombuffer(raster.png(chart(*series)), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    solid, dashed = ((picture == np.array(bgr)).all(axis=2).sum() for bgr in ((0xC9, 0x77, 0x35), (0x0A, 0x62, 0xC8)))
    assert 0.5 * solid < dashed < 0.85 * solid  # 7 of 11 pixels are drawn
