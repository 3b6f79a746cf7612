"""Bar charts as SVG, with an axis, intervals, marks and tooltips; the style sheet of the page colours them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from guie.report.charts import number, ticks
from guie.report.svg import diamond, element, svg, title, whisker

# Sizes are in units of the view box.
BAR_W = 380  # of a whole bar chart
BAR_LEFT = 8  # its margins
BAR_RIGHT = 14
BAR_LABEL_H = 22  # above the bars of a row, for its label
BAR_GAP = 10  # below them
CHAR_PX = 6.6  # width of a digit in the font of 12 px, roughly


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        value: Its length on the axis; NaN where it was not measured.
        style: A class of the style sheet.
        tip: The tooltip.
        interval: Lower and upper end of the value's interval, where it is known.
    """

    value: float
    style: str
    tip: str
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class BarRow:
    """A label, the bars below it, and what else stands there.

    Attributes:
        label: Above the bars, at the left.
        note: Above the bars, at the right.
        bars: From top to bottom.
        mark: A value that a diamond shows on the same axis.
    """

    label: str
    note: str
    bars: tuple[Bar, ...]
    mark: Bar | None = None

    @property
    def values(self) -> list[float]:
        """All finite numbers that the axis must hold."""
        drawn = [*self.bars, *([self.mark] if self.mark else [])]
        return [v for bar in drawn for v in (bar.value, *(bar.interval or ())) if math.isfinite(v)]

    @property
    def mark_at(self) -> float | None:
        """Where the diamond stands on the axis; None where there is no diamond."""
        return self.mark.value if self.mark and math.isfinite(self.mark.value) else None


def bar_chart(name: str, rows: Sequence[BarRow], axis: str) -> Markup:
    """Horizontal bars from 0 to at least the largest value.

    A row's label stands above its bars, so that long names fit a phone.

    Args:
        name: What the chart shows, for screen readers.
        rows: From top to bottom.
        axis: What the axis shows.
    """
    marks = ticks(0.0, max([*(value for row in rows for value in row.values), 1e-9]))
    scale = (BAR_W - BAR_LEFT - BAR_RIGHT) / marks[-1]
    bar_h = 20 if all(len(row.bars) == 1 for row in rows) else 16
    heights = [BAR_LABEL_H + bar_h * len(row.bars) + BAR_GAP for row in rows]
    bottom = sum(heights) + 4
    tops = itertools.accumulate(heights, initial=0)
    drawn = [_bar_row(row, top, scale, bar_h) for row, top in zip(rows, tops, strict=False)]
    return svg(BAR_W, bottom + 36, name, _bar_axis(marks, scale, bottom, axis), *drawn)


def _bar_axis(marks: Sequence[float], scale: float, bottom: int, axis: str) -> Markup:
    parts = []
    for mark in marks:
        x = BAR_LEFT + mark * scale
        parts.append(element("line", class_="grid", x1=x, x2=x, y1=0, y2=bottom))
        parts.append(element("text", number(mark), class_="tick", x=x, y=bottom + 15, text_anchor="middle"))
    parts.append(element("text", axis, class_="axis", x=BAR_W / 2, y=bottom + 31, text_anchor="middle"))
    return Markup("").join(parts)


def _bar_row(row: BarRow, top: int, scale: float, bar_h: int) -> Markup:
    room = int((BAR_W - BAR_LEFT - BAR_RIGHT) / CHAR_PX) - len(row.note) - 2
    label = row.label if len(row.label) <= room else row.label[: room - 1] + "…"
    parts = [
        element("text", label, title(row.label), class_="label", x=BAR_LEFT, y=top + 17),
        element("text", row.note, class_="tick", x=BAR_W - BAR_RIGHT, y=top + 17, text_anchor="end"),
    ]
    for i, bar in enumerate(row.bars):
        y = top + BAR_LABEL_H + i * bar_h
        parts.append(_bar(bar, y, scale, bar_h, row.mark_at))
    if row.mark and row.mark_at is not None:
        middle = top + BAR_LABEL_H + (bar_h * len(row.bars) - 2) / 2
        parts.append(diamond(row.mark.style, BAR_LEFT + row.mark_at * scale, middle, title(row.mark.tip)))
    return element("g", *parts)


def _bar(bar: Bar, y: int, scale: float, bar_h: int, mark_at: float | None) -> Markup:
    """A bar with its value and its interval; `mark_at` is where a diamond covers it."""
    if not math.isfinite(bar.value):
        return element("text", "not measured", class_="tick", x=BAR_LEFT + 4, y=y + bar_h / 2 + 4)
    width = max(bar.value * scale, 0.5)
    parts = [
        element("rect", title(bar.tip), class_=bar.style, x=BAR_LEFT, y=y, width=width, height=bar_h - 2, rx=2),
        _bar_value(bar, y + bar_h / 2 + 3.2, scale, mark_at),
    ]
    if bar.interval:
        low, high = (BAR_LEFT + end * scale for end in bar.interval)
        parts.append(whisker(low, high, y + (bar_h - 2) / 2))
    return Markup("").join(parts)


def _bar_value(bar: Bar, y: float, scale: float, mark_at: float | None) -> Markup:
    """The value as a text: within the bar where there is room, else to the right of bar, interval and diamond."""
    text = f"{bar.value:.3f}" if isinstance(bar.value, float) else str(bar.value)
    low, high = (end * scale for end in bar.interval or (bar.value, bar.value))
    if low > CHAR_PX * len(text) + 12:
        style = f"inside on-{bar.style}"
        return element("text", text, class_=style, x=BAR_LEFT + low - 6, y=y, text_anchor="end")
    if mark_at is not None:
        high = max(high, mark_at * scale + 4)
    return element("text", text, class_="value", x=BAR_LEFT + high + 6, y=y, text_anchor="start")
