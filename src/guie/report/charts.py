"""Charts as SVG texts: bars and lines with axes, ticks and tooltips, coloured by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from guie.report.palette import kind, paint

BAR_W, BAR_LEFT, BAR_RIGHT = 380, 8, 14  # of bar charts, in units of the view box
LINE_W, LINE_H, LINE_LEFT, LINE_RIGHT, LINE_TOP, LINE_BOTTOM = 260, 165, 42, 12, 10, 34
MAP_W, MAP_H, MAP_PAD, MARKER_R = 720, 540, 16, 4.5
MAX_POINTS = 120  # of a line; more are thinned evenly, the last one stays
CHAR_PX = 6.6  # a digit of 12 px, roughly


@dataclass(frozen=True)
class Bar:
    """One bar of a row: `style` is a class of the style sheet, `tip` the tooltip, `interval` its lower and upper end where they are known."""

    value: float
    style: str
    tip: str
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class BarRow:
    """A label, the bars below it, and an optional mark (a diamond) on the same axis."""

    label: str
    note: str
    bars: tuple[Bar, ...]
    mark: Bar | None = None


@dataclass(frozen=True)
class Line:
    """One line: x and y, NaN where it was not measured."""

    name: str
    style: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Point:
    """One image on a map: x and y from 0 to 1, the number of its domain, which colour and shape tell, and of its class."""

    x: float
    y: float
    domain: int
    class_id: int
    label: str


def ticks(low: float, high: float, n: int = 5) -> list[float]:
    """Round numbers (1, 2, 2.5, 5 times a power of ten) that cover `low` to `high` in about `n` steps; the first is <= low, the last >= high."""
    if not low < high:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / n
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * f for f in (1, 2, 2.5, 5, 10) if power * f >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
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


def bar_chart(title: str, rows: Sequence[BarRow], axis: str) -> str:
    """Horizontal bars from 0 to at least the largest value, each row's label above its bars (so that long names fit a phone).

    Args:
        title: Read out by screen readers.
        rows: From top to bottom.
        axis: What the axis shows.
    """
    values = [v for row in rows for b in (*row.bars, *([row.mark] if row.mark else [])) for v in (b.value, *(b.interval or ())) if math.isfinite(v)]
    marks = ticks(0.0, max([*values, 1e-9]))
    scale = (BAR_W - BAR_LEFT - BAR_RIGHT) / marks[-1]
    bar_h = 20 if all(len(row.bars) == 1 for row in rows) else 16
    heights = [22 + bar_h * len(row.bars) + 10 for row in rows]
    bottom = sum(heights) + 4
    parts = [_svg_open(BAR_W, bottom + 36, title)]
    for mark in marks:
        x = BAR_LEFT + mark * scale
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{number(mark)}</text>')
    parts.append(f'<text class="axis" x="{BAR_W / 2}" y="{bottom + 31}" text-anchor="middle">{escape(axis)}</text>')
    top = 0
    for row, height in zip(rows, heights, strict=True):
        parts.append(_bar_row(row, top, scale, bar_h))
        top += height
    return "".join(parts) + "</svg>"


def line_chart(
    title: str, lines: Sequence[Line], axis: str, is_from_zero: bool = False, is_share: bool = False, size: tuple[int, int] = (LINE_W, LINE_H)
) -> str:
    """Lines over a common x axis; a chart of one point shows the point. Values that are no number are left out.

    Args:
        title: Read out by screen readers.
        lines: At least one with a finite point.
        axis: What x shows.
        is_from_zero: The y axis begins at 0.
        is_share: The y axis lies within 0..1.
        size: Width and height of the whole chart, in units of the view box.
    """
    points = [_points(line) for line in lines]
    xs, ys = [x for p in points for x, _ in p], [y for p in points for _, y in p]
    if not xs:
        raise ValueError(f"the chart {title!r} has no finite point")
    low, high = (min(ys), max(ys)) if max(ys) > min(ys) else (min(ys) - abs(min(ys)) * 0.1, max(ys) + abs(max(ys)) * 0.1)
    if is_share:
        low, high = max(0.0, low - 0.01), min(1.0, high + 0.01)
    y_ticks = ticks(0.0, high or 1.0, 4) if is_from_zero else ticks(low, high, 4)
    x_low, x_high = (min(xs), max(xs)) if max(xs) > min(xs) else (min(xs) - 1, max(xs) + 1)
    width, height = size
    right, bottom = width - LINE_RIGHT, height - LINE_BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        across = LINE_LEFT + (x - x_low) / (x_high - x_low) * (right - LINE_LEFT)
        return across, bottom - (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (bottom - LINE_TOP)

    parts = [_svg_open(width, height, title)]
    for tick in y_ticks:
        _, y = at(x_low, tick)
        parts.append(f'<line class="grid" x1="{LINE_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LINE_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    for tick in [min(xs)] if min(xs) == max(xs) else [t for t in ticks(x_low, x_high, 4) if x_low <= t <= x_high]:
        x, _ = at(tick, y_ticks[0])
        parts.append(f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{number(tick)}</text>')
    parts.append(f'<line class="rule" x1="{LINE_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(f'<text class="axis" x="{(LINE_LEFT + right) / 2}" y="{height - 4}" text-anchor="middle">{escape(axis)}</text>')
    for line, own in zip(lines, points, strict=True):
        parts.append(_line(line, own, [at(x, y) for x, y in own], axis))
    return "".join(parts) + "</svg>"


def map_chart(title: str, points: Sequence[Point]) -> str:
    """Points in the plane: colour and shape tell the domain; `data-i` is a point's number, `data-c` its class."""
    shapes = []
    for i, point in enumerate(points):
        x, y = MAP_PAD + point.x * (MAP_W - 2 * MAP_PAD), MAP_PAD + point.y * (MAP_H - 2 * MAP_PAD)
        attributes = f'class="{kind(point.domain)}" data-i="{i}" data-c="{point.class_id}"'
        shapes.append(_marker(point.domain, x, y, attributes, f"<title>{escape(point.label)}</title>"))
    return _svg_open(MAP_W, MAP_H, title) + "".join(shapes) + "</svg>"


def marker_key(domain: int) -> str:
    """The mark of one domain, for a legend."""
    attributes = f'class="{kind(domain)}"'
    return f'<svg class="key" viewBox="0 0 14 14" aria-hidden="true">{_marker(domain, 7, 7, attributes, "")}</svg>'


def keyed(chart: str, title: str, keys: Sequence[tuple[str, str]]) -> str:
    """A chart below its title and a line for each key (style and meaning), for a file that stands alone."""
    width, height = view_box(chart)
    head = 20 * bool(title) + 16 * len(keys) + 4
    parts = [_svg_open(width, height + head, title), f'<text class="label" x="8" y="15">{escape(title)}</text>' if title else ""]
    for i, (style, text) in enumerate(keys):
        y = head - 16 * (len(keys) - i) + 4
        parts.append(f'{_key(style, 10, y)}<text class="value" x="38" y="{y + 4}">{escape(text)}</text>')
    return "".join(parts) + _placed(chart, 0, head) + "</svg>"


def grid(charts: Sequence[Sequence[str]], titles: Sequence[Sequence[str]]) -> str:
    """Charts of one size in rows and columns as one, a title above each; '' leaves a place empty."""
    width, height = view_box(next(chart for row in charts for chart in row if chart))
    head, n_columns = 20, max(map(len, charts))
    parts = [_svg_open(width * n_columns, (height + head) * len(charts), "")]
    for i, (row, names) in enumerate(zip(charts, titles, strict=True)):
        for j, (chart, name) in enumerate(zip(row, names, strict=True)):
            top = i * (height + head)
            parts.append(f'<text class="label" x="{j * width + 8}" y="{top + 14}">{escape(name)}</text>')
            parts.append(_placed(chart, j * width, top + head))
    return "".join(parts) + "</svg>"


def view_box(svg: str) -> tuple[float, float]:
    """Width and height of a chart of this file."""
    _, _, width, height = svg.split('viewBox="', 1)[1].split('"', 1)[0].split()
    return float(width), float(height)


def thinned(n: int) -> list[int]:
    """Positions of at most `MAX_POINTS` + 1 of `n` rows, evenly spaced, the last one among them."""
    step = max(1, math.ceil(n / MAX_POINTS))
    return sorted({*range(0, n, step), n - 1}) if n else []


def _svg_open(width: float, height: float, title: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'


def _points(line: Line) -> list[tuple[float, float]]:
    finite = [(float(x), float(y)) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
    return [finite[i] for i in thinned(len(finite))]


def _line(line: Line, points: list[tuple[float, float]], places: list[tuple[float, float]], axis: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    radius = 3 if len(points) <= 30 else 1.6
    dots = []
    for (x, y), (across, down) in zip(points, places, strict=True):
        tip = escape(f"{line.name} {number(y)} at {axis} {number(x)}")
        dots.append(f'<circle class="dot-{line.style}" cx="{across:.1f}" cy="{down:.1f}" r="{radius}"><title>{tip}</title></circle>')
    return f'<polyline class="{line.style}" points="{path}"/>' + "".join(dots)


def _bar_row(row: BarRow, top: float, scale: float, bar_h: int) -> str:
    room = int((BAR_W - BAR_LEFT - BAR_RIGHT) / CHAR_PX) - len(row.note) - 2
    label = row.label if len(row.label) <= room else row.label[: room - 1] + "…"
    parts = [f'<g><text class="label" x="{BAR_LEFT}" y="{top + 17}">{escape(label)}<title>{escape(row.label)}</title></text>']
    parts.append(f'<text class="tick" x="{BAR_W - BAR_RIGHT}" y="{top + 17}" text-anchor="end">{escape(row.note)}</text>')
    for i, bar in enumerate(row.bars):
        y = top + 22 + i * bar_h
        if not math.isfinite(bar.value):
            parts.append(f'<text class="tick" x="{BAR_LEFT + 4}" y="{y + bar_h / 2 + 4}">not measured</text>')
            continue
        width, text = bar.value * scale, f"{bar.value:.3f}" if isinstance(bar.value, float) else str(bar.value)
        low, high = (end * scale for end in bar.interval) if bar.interval else (width, width)
        is_inside = low > CHAR_PX * len(text) + 12
        if row.mark and math.isfinite(row.mark.value):
            high = max(high, row.mark.value * scale + 4)  # a value beside the bar stands behind the mark
        x, anchor, style = (BAR_LEFT + low - 6, "end", f"inside on-{bar.style}") if is_inside else (BAR_LEFT + high + 6, "start", "value")
        box = f'x="{BAR_LEFT}" y="{y}" width="{max(width, 0.5):.1f}" height="{bar_h - 2}" rx="2"'
        parts.append(f'<rect class="{bar.style}" {box}><title>{escape(bar.tip)}</title></rect>')
        parts.append(f'<text class="{style}" x="{x:.1f}" y="{y + bar_h / 2 + 3.2:.1f}" text-anchor="{anchor}">{text}</text>')
        if bar.interval:
            parts.append(_whisker(BAR_LEFT + bar.interval[0] * scale, BAR_LEFT + bar.interval[1] * scale, y + (bar_h - 2) / 2))
    if row.mark and math.isfinite(row.mark.value):
        x, y = BAR_LEFT + row.mark.value * scale, top + 22 + (bar_h * len(row.bars) - 2) / 2
        parts.append(_diamond(row.mark.style, x, y, f"<title>{escape(row.mark.tip)}</title>"))
    return "".join(parts) + "</g>"


def _placed(chart: str, x: float, y: float) -> str:
    """A chart within another."""
    width, height = view_box(chart) if chart else (0.0, 0.0)
    return chart.replace("<svg ", f'<svg x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" ', 1)


def _key(style: str, x: float, y: float) -> str:
    """What a style looks like: a marker of the map (`map-2`), a line where it is one, else a box; `y` is the middle."""
    if style.startswith("map-"):
        domain = int(style.removeprefix("map-"))
        return _marker(domain, x + 11, y, f'class="{kind(domain)}"', "")
    if not paint(style).fill:
        return f'<line class="{style}" x1="{x}" x2="{x + 22}" y1="{y}" y2="{y}"/>'
    if style == "mark":
        return _diamond(style, x + 11, y, "")
    return f'<rect class="{style}" x="{x + 5}" y="{y - 6}" width="12" height="12" rx="2"/>'


def _diamond(style: str, x: float, y: float, content: str) -> str:
    r = 5.5
    return f'<polygon class="{style}" points="{x - r:.1f},{y:.1f} {x:.1f},{y - r:.1f} {x + r:.1f},{y:.1f} {x:.1f},{y + r:.1f}">{content}</polygon>'


def _whisker(low: float, high: float, y: float) -> str:
    """An interval: a line with ends, on a halo that parts it from the bar."""
    lines = ((low, high, y, y), (low, low, y - 4, y + 4), (high, high, y - 4, y + 4))
    return "".join(f'<line class="{style}" x1="{a:.1f}" x2="{b:.1f}" y1="{c:.1f}" y2="{d:.1f}"/>' for style in ("halo", "whisker") for a, b, c, d in lines)


def _marker(domain: int, x: float, y: float, attributes: str, content: str) -> str:
    """A disc, square, triangle or diamond, of about one area, in turn."""
    r = MARKER_R
    if domain % 4 == 0:
        return f'<circle {attributes} cx="{x:.1f}" cy="{y:.1f}" r="{r}">{content}</circle>'
    corners = (
        ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
        ((0, -1.3), (1.2, 0.8), (-1.2, 0.8)),
        ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
    )[domain % 4 - 1]
    places = " ".join(f"{x + dx * r:.1f},{y + dy * r:.1f}" for dx, dy in corners)
    return f'<polygon {attributes} points="{places}">{content}</polygon>'
