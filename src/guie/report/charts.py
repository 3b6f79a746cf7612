"""Line charts as SVG, with axes, ticks and tooltips; the style sheet of the page colours them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from guie.report.svg import element, svg, title

# Sizes are in units of the view box.
LINE_W = 260  # of a whole line chart
LINE_H = 165
LINE_LEFT = 42  # its margins
LINE_RIGHT = 12
LINE_TOP = 10
LINE_BOTTOM = 34
MAX_POINTS = 120  # of a line: of more points, every n-th is drawn, and the last one


@dataclass(frozen=True)
class Line:
    """One line of a chart: its name for the tooltips, its style, and its points, NaN where it was not measured."""

    name: str
    style: str
    x: Sequence[float]
    y: Sequence[float]

    @property
    def points(self) -> list[tuple[float, float]]:
        """The finite points that are drawn, at most `MAX_POINTS` + 1."""
        pairs = [(float(x), float(y)) for x, y in zip(self.x, self.y, strict=True)]
        finite = [(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]
        return [finite[i] for i in thinned(len(finite))]


def ticks(low: float, high: float, n: int = 5) -> list[float]:
    """Round numbers from `low` or below to `high` or above, in about `n` steps.

    A step is 1, 2, 2.5 or 5 times a power of ten.
    """
    if not low < high:
        pad = abs(low) * 0.1 or 1.0
        return ticks(low - pad, high + pad, n)
    raw = (high - low) / n
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * f for f in (1, 2, 2.5, 5, 10) if power * f >= raw * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def number(value: float) -> str:
    """A short text of a number for an axis or tooltip: `0.05`, `7.5e-4`; whole numbers (steps) as they are."""
    if abs(value) < 1e-15:
        return "0"
    if value == int(value) and abs(value) < 1e7:
        return str(int(value))
    if 1e-2 <= abs(value) < 1e4:
        return f"{value:.4g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def thinned(n: int) -> list[int]:
    """Positions of at most `MAX_POINTS` + 1 of `n` rows, evenly spaced, with the last one."""
    step = max(1, math.ceil(n / MAX_POINTS))
    return sorted({*range(0, n, step), n - 1}) if n else []


def line_chart(
    name: str,
    lines: Sequence[Line],
    axis: str,
    is_from_zero: bool = False,
    is_share: bool = False,
    size: tuple[int, int] = (LINE_W, LINE_H),
) -> Markup:
    """Lines over a common x axis. Values that are not finite are left out; a line of one point shows the point.

    Args:
        name: What the chart shows, for screen readers.
        lines: At least one with a finite point.
        axis: What x shows.
        is_from_zero: The y axis holds 0.
        is_share: The y axis lies within 0..1.
        size: Width and height of the whole chart.

    Raises:
        ValueError: no line has a finite point.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        raise ValueError(f"the chart {name!r} has no finite point")
    y_ticks = _y_ticks([y for _, y in points], is_from_zero, is_share)
    plane = _Plane.of([x for x, _ in points], y_ticks, size)
    drawn = [_line(line, plane, axis) for line in lines]
    return svg(*size, name, _y_axis(plane, y_ticks), _x_axis(plane, axis), *drawn)


@dataclass(frozen=True)
class _Plane:
    """Where the values of a line chart lie: the ranges of the axes, and the right and lower edge in the view box."""

    x: tuple[float, float]
    y: tuple[float, float]
    x_ticks: tuple[float, ...]
    right: float
    bottom: float

    @staticmethod
    def of(xs: Sequence[float], y_ticks: Sequence[float], size: tuple[int, int]) -> _Plane:
        """A plane that holds `xs` and all ticks of y in a chart of `size`."""
        low, high = min(xs), max(xs)
        y = (y_ticks[0], y_ticks[-1])
        right = size[0] - LINE_RIGHT
        bottom = size[1] - LINE_BOTTOM
        if low == high:
            return _Plane((low - 1, low + 1), y, (low,), right, bottom)
        inner = tuple(tick for tick in ticks(low, high, 4) if low <= tick <= high)
        return _Plane((low, high), y, inner, right, bottom)

    def across(self, x: float) -> float:
        """The place of a value of x."""
        return LINE_LEFT + (x - self.x[0]) / (self.x[1] - self.x[0]) * (self.right - LINE_LEFT)

    def down(self, y: float) -> float:
        """The place of a value of y."""
        return self.bottom - (y - self.y[0]) / (self.y[1] - self.y[0]) * (self.bottom - LINE_TOP)


def _y_ticks(ys: Sequence[float], is_from_zero: bool, is_share: bool) -> list[float]:
    low, high = min(ys), max(ys)
    if low == high:
        low -= abs(low) * 0.1
        high += abs(high) * 0.1
    if is_share:
        low = max(0.0, low - 0.01)
        high = min(1.0, high + 0.01)
    if is_from_zero:
        low = min(low, 0.0)
        high = max(high, 0.0) or (0.0 if low else 1.0)
    return ticks(low, high, 4)


def _y_axis(plane: _Plane, y_ticks: Sequence[float]) -> Markup:
    parts = []
    for tick in y_ticks:
        y = plane.down(tick)
        parts.append(element("line", class_="grid", x1=LINE_LEFT, x2=plane.right, y1=y, y2=y))
        parts.append(element("text", number(tick), class_="tick", x=LINE_LEFT - 5, y=y + 4, text_anchor="end"))
    return Markup("").join(parts)


def _x_axis(plane: _Plane, axis: str) -> Markup:
    bottom = plane.bottom
    parts = []
    for tick in plane.x_ticks:
        x = plane.across(tick)
        parts.append(element("line", class_="rule", x1=x, x2=x, y1=bottom, y2=bottom + 4))
        parts.append(element("text", number(tick), class_="tick", x=x, y=bottom + 15, text_anchor="middle"))
    parts.append(element("line", class_="rule", x1=LINE_LEFT, x2=plane.right, y1=bottom, y2=bottom))
    middle = (LINE_LEFT + plane.right) / 2
    height = bottom + LINE_BOTTOM
    parts.append(element("text", axis, class_="axis", x=middle, y=height - 4, text_anchor="middle"))
    return Markup("").join(parts)


def _line(line: Line, plane: _Plane, axis: str) -> Markup:
    points = line.points
    path = " ".join(f"{plane.across(x):.1f},{plane.down(y):.1f}" for x, y in points)
    radius = 3 if len(points) <= 30 else 1.6
    dots = []
    for x, y in points:
        tip = title(f"{line.name} {number(y)} at {axis} {number(x)}")
        style = f"dot-{line.style}"
        dots.append(element("circle", tip, class_=style, cx=plane.across(x), cy=plane.down(y), r=radius))
    return Markup("").join([element("polyline", class_=line.style, points=path), *dots])
