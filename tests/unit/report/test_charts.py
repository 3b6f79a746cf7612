"""Charts: round ticks, marks at the place of their values, texts escaped."""

import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from guie.report import charts, charts_bars


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 0.71, [0, 0.2, 0.4, 0.6, 0.8]),
        (2.1, 13.4, [0, 2.5, 5, 7.5, 10, 12.5, 15]),
        (0, 1e-3, [0, 2e-4, 4e-4, 6e-4, 8e-4, 1e-3]),
    ],
)
def test_ticks_are_round_and_cover_the_range(low: float, high: float, expected: list[float]) -> None:
    assert charts.ticks(low, high) == pytest.approx(expected)


def test_ticks_cover_any_range() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        low = rng.normal() * 10.0 ** rng.integers(-6, 6)
        high = low + abs(rng.normal()) * 10.0 ** rng.integers(-6, 6)
        marks = charts.ticks(low, high)
        slack = 1e-6 * max(abs(low), abs(high), high - low)
        assert marks[0] <= low + slack
        assert marks[-1] >= high - slack
        assert 3 <= len(marks) <= 8
        assert np.all(np.diff(marks) > 0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (1200, "1200"),
        (7.5e-4, "7.5e-4"),
        (1e-5, "1e-5"),
        (-0.5, "-0.5"),
        (250000, "250000"),
        (99_999, "99999"),
        (1e-17, "0"),
        (12345.6, "1.23e4"),
        (3e9, "3e9"),
    ],
)
def test_number_is_short(value: float, text: str) -> None:
    assert charts.number(value) == text


def test_line_chart_places_points_by_value_and_skips_what_is_no_number() -> None:
    line = charts.Line("loss <b>", "one", [0, 10, 20, 40], [0.0, math.nan, 5.0, 10.0])
    svg = ET.fromstring(charts.line_chart("a & b", [line], "step"))
    at = [tuple(map(float, pair.split(","))) for pair in svg.find("polyline").get("points").split()]
    left, right = charts.LINE_LEFT, charts.LINE_W - charts.LINE_RIGHT
    top, bottom = charts.LINE_TOP, charts.LINE_H - charts.LINE_BOTTOM
    np.testing.assert_allclose(at, [(left, bottom), ((left + right) / 2, (top + bottom) / 2), (right, top)], atol=0.06)
    assert svg.get("aria-label") == "a & b"
    assert [title.text for title in svg.iter("title")] == [
        "loss <b> 0 at step 0",
        "loss <b> 5 at step 20",
        "loss <b> 10 at step 40",
    ]


def test_line_chart_of_a_single_point_and_of_a_constant() -> None:
    for xs, ys in (([7], [0.3]), ([1, 2], [0.5, 0.5]), ([1, 2], [0.0, 0.0])):
        svg = ET.fromstring(charts.line_chart("t", [charts.Line("y", "one", xs, ys)], "epoch"))
        for circle in svg.iter("circle"):
            assert charts.LINE_LEFT <= float(circle.get("cx")) <= charts.LINE_W
            assert 0 <= float(circle.get("cy")) <= charts.LINE_H - charts.LINE_BOTTOM


def test_line_chart_without_a_point_is_an_error() -> None:
    with pytest.raises(ValueError, match="no finite point"):
        charts.line_chart("empty", [charts.Line("y", "one", [1], [math.nan])], "step")


def test_line_chart_of_many_points_is_thinned_but_keeps_the_ends() -> None:
    svg = charts.line_chart(
        "t", [charts.Line("y", "one", list(range(100_000)), [float(i) for i in range(100_000)])], "step"
    )
    titles = [title.text for title in ET.fromstring(svg).iter("title")]
    assert len(titles) <= charts.MAX_POINTS + 1
    assert titles[0].endswith("step 0")
    assert titles[-1].endswith("y 99999 at step 99999")


def test_bar_chart_widths_are_proportional_and_texts_escaped() -> None:
    rows = [
        charts_bars.BarRow(
            "<a>", "64-d", (charts_bars.Bar(v, "step", "tip & tip"),), charts_bars.Bar(0.8, "mark", "r1")
        )
        for v in (0.2, 0.4, math.nan)
    ]
    svg = ET.fromstring(charts_bars.bar_chart("bars", rows, "mP@5"))
    widths = [float(box.get("width")) for box in svg.iter("rect")]
    assert len(widths) == 2
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2)
    assert [text.text for text in svg.iter("text")].count("not measured") == 1
    assert len(list(svg.iter("polygon"))) == 3


def test_whisker_ends_at_the_interval() -> None:
    rows = [
        charts_bars.BarRow("a", "", (charts_bars.Bar(0.5, "step", "", (0.25, 0.75)),)),
        charts_bars.BarRow("b", "", (charts_bars.Bar(1.0, "step", ""),)),
    ]
    svg = ET.fromstring(charts_bars.bar_chart("bars", rows, "x"))
    half, whole = (float(bar.get("width")) for bar in svg.iter("rect"))
    across, low, high = (line for line in svg.iter("line") if line.get("class") == "whisker")
    assert float(across.get("x1")) == float(low.get("x1")) == pytest.approx(charts_bars.BAR_LEFT + whole / 4, abs=0.1)
    assert float(across.get("x2")) == float(high.get("x1")) == pytest.approx(charts_bars.BAR_LEFT + 1.5 * half, abs=0.1)
