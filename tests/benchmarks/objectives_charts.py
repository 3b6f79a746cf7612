"""Charts of objectives.py as SVG files, in the report's colours: light, and dark where the reader's page is dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from guie.report.charts import number, ticks
from guie.report.palette import DARK, LIGHT
from guie.report.svg import element, title

Dots = dict[str, tuple[float, float]]  # name to value and half the width of its interval, NaN without one
Box = tuple[float, float, float, float]
COLOURS = ("paper", "ink", "soft", "grid", "accent")  # of the palette
RULES = """text{fill:var(--ink);font:12px sans-serif}
.soft{fill:var(--soft);font-size:11px}
.head{font-weight:700;font-size:13px}
.grid{stroke:var(--grid)}
.zero{stroke:var(--soft)}
.paper{fill:var(--paper)}
.line-hollow{stroke:var(--soft);stroke-width:1.5}
.line-full{stroke:var(--accent);stroke-width:1.5}
.hollow{fill:var(--paper);stroke:var(--soft);stroke-width:1.5}
.full{fill:var(--accent);stroke:var(--paper)}"""
STYLES = ("hollow", "full")  # of the parts, in turn
WIDTH = 720
LEFT = 190  # for the names
INNER_LEFT = 58  # of a chart whose names stand beside the dots
CHAR = 6.4  # width of a letter of 11 px, roughly
RIGHT = 24
TOP = 62
BOTTOM = 44
ROW = 20
FARTHEST = 0.1  # a value that is lower than the median by more is drawn at the edge, with its number


def document(height: float, name: str, *content: str) -> str:
    """An SVG file, `WIDTH` wide, with a title and what is drawn below it."""
    light, dark = (";".join(f"--{key}:{palette[key]}" for key in COLOURS) for palette in (LIGHT, DARK))
    style = f"svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}\n{RULES}"
    size = f'viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(name)}">'
    ground = element("rect", class_="paper", width=WIDTH, height=height, rx=6)
    head = element("text", name, class_="head", x=12, y=22)
    return f"{opening}<style>{style}</style>{ground}{head}{Markup('').join(content)}</svg>\n"


def dot_chart(name: str, rows: Sequence[str], parts: Mapping[str, Dots], over: str = "seeds") -> str:
    """A line for each row, with a dot and its interval for each part; where there is a 0, its line is stronger.

    Args:
        name: What the chart shows.
        rows: From top to bottom; those that no part has are left out.
        parts: What a dot stands for, to its dots; at most two.
        over: What the intervals are over.
    """
    rows = [row for row in rows if any(row in dots for dots in parts.values())]
    found = [(value, 0.0 if math.isnan(half) else half) for dots in parts.values() for value, half in dots.values()]
    values = sorted(value for value, _ in found)
    near = [(value, half) for value, half in found if value >= values[len(values) // 2] - FARTHEST]
    marks = ticks(min(value - half for value, half in near), max(value + half for value, half in near), 6)
    scale = (WIDTH - LEFT - RIGHT) / (marks[-1] - marks[0])
    bottom = TOP + ROW * len(rows)
    drawn = [*_axis(marks, scale, bottom), *_legend(list(parts), over)]
    for i, row in enumerate(rows):
        y = TOP + ROW * (i + 0.5)
        drawn.append(element("text", row, x=LEFT - 10, y=y + 4, text_anchor="end"))
        for j, (part, dots) in enumerate(parts.items()):
            if row in dots:
                shift = (j - (len(parts) - 1) / 2) * 7
                drawn.append(_dot(f"{row}, {part}", dots[row], marks[0], scale, y + shift, STYLES[j]))
    return document(bottom + BOTTOM, name, *drawn)


def _axis(marks: Sequence[float], scale: float, bottom: float) -> list[Markup]:
    parts = []
    for mark in marks:
        x = LEFT + (mark - marks[0]) * scale
        parts.append(element("line", class_="grid" if mark else "zero", x1=x, x2=x, y1=TOP, y2=bottom))
        parts.append(element("text", number(mark), class_="soft", x=x, y=bottom + 16, text_anchor="middle"))
    return parts


def _legend(parts: Sequence[str], over: str) -> list[Markup]:
    drawn = []
    for i, part in enumerate(parts):
        x = 12 + i * 150
        drawn.append(element("circle", class_=STYLES[i], cx=float(x + 6), cy=42.0, r=4))
        drawn.append(element("text", part, x=x + 16, y=46))
    drawn.append(element("text", f"line: 95 % interval over {over}", class_="soft", x=12 + len(parts) * 150, y=46))
    return drawn


def _dot(tip: str, dot: tuple[float, float], start: float, scale: float, y: float, style: str) -> Markup:
    """A dot with its interval; at the left edge, with its number, where it lies beyond."""
    value, half = dot
    told = title(f"{tip}: {value:.3f}" + ("" if math.isnan(half) else f" ± {half:.3f}"))
    if value < start:
        shift = 12 if style == STYLES[0] else 70  # two of one row stand beside each other
        text = element("text", f"◂ {value:.3f}", told, class_="soft", x=LEFT + shift, y=y + 4)
        return Markup("").join([element("circle", told, class_=style, cx=float(LEFT + shift - 8), cy=y, r=4), text])
    x = LEFT + (value - start) * scale
    parts = []
    if not math.isnan(half):
        left = max(float(LEFT), x - half * scale)
        parts.append(element("line", class_=f"line-{style}", x1=left, x2=x + half * scale, y1=y, y2=y))
    return Markup("").join([*parts, element("circle", told, class_=style, cx=x, cy=y, r=4)])


def scatter_chart(name: str, points: Mapping[str, tuple[float, float]], axes: tuple[str, str]) -> str:
    """A dot for each name, x on a logarithmic axis; what is much lower than the median is drawn at the lower edge.

    A dot's name stands beside it where there is room, and in its tooltip.

    Args:
        name: What the chart shows.
        points: Name to x, above 0, and y.
        axes: What x and y are.
    """
    height = 460
    bottom = float(height - 62)
    ys = sorted(y for _, y in points.values())
    marks = ticks(max(ys[0], ys[len(ys) // 2] - FARTHEST), ys[-1], 6)
    down = (bottom - TOP + 10) / (marks[-1] - marks[0])
    low, high = (f(math.log10(x) for x, _ in points.values()) for f in (min, max))
    across = (WIDTH - INNER_LEFT - 2 * RIGHT) / max(high - low, 0.1)
    at = {
        row: (INNER_LEFT + 10 + (math.log10(x) - low) * across, min(bottom, bottom - (y - marks[0]) * down))
        for row, (x, y) in points.items()
    }
    drawn = [element("text", axes[1], class_="soft", x=12, y=44)]
    for mark in marks:
        y = bottom - (mark - marks[0]) * down
        drawn.append(element("line", class_="grid", x1=INNER_LEFT, x2=WIDTH - RIGHT, y1=y, y2=y))
        drawn.append(element("text", number(mark), class_="soft", x=INNER_LEFT - 8, y=y + 4, text_anchor="end"))
    for tick in (base * 10.0**power for power in range(-3, 5) for base in (1, 2, 3, 5)):
        if low - 1e-9 <= math.log10(tick) <= high + 1e-9:
            x = INNER_LEFT + 10 + (math.log10(tick) - low) * across
            drawn.append(element("text", number(tick), class_="soft", x=x, y=bottom + 18, text_anchor="middle"))
    drawn.append(element("text", axes[0], class_="soft", x=WIDTH / 2, y=bottom + 40, text_anchor="middle"))
    for row, (x, y) in at.items():
        told = title(f"{row}: {axes[1]} {points[row][1]:.3f}, {points[row][0]:.3g} {axes[0]}")
        drawn.append(element("circle", told, class_="full", cx=x, cy=y, r=4))
    return document(height, name, *drawn, *_names(at))


def _names(at: Mapping[str, tuple[float, float]]) -> list[Markup]:
    """The names of dots, the uppermost first, each to the right or the left of its dot; those without room are left
    out."""
    taken = [(x - 5, x + 5, y - 5, y + 5) for x, y in at.values()]
    drawn = []
    for row, (x, y) in sorted(at.items(), key=lambda item: item[1][1]):
        width = CHAR * len(row)
        for start, anchor in ((x + 7, "start"), (x - 7 - width, "end")):
            box = (start, start + width, y - 6, y + 6)
            is_inside = start > INNER_LEFT and start + width < WIDTH - 4
            if is_inside and not any(_overlap(box, other) for other in taken):
                place = start if anchor == "start" else start + width
                drawn.append(element("text", row, class_="soft", x=place, y=y + 4, text_anchor=anchor))
                taken.append(box)
                break
    return drawn


def _overlap(one: Box, other: Box) -> bool:
    """Whether two boxes share a point; each is left, right, top and bottom."""
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]
