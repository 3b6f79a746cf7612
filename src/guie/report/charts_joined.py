"""Charts with their titles and legends as one SVG, for the files beside the page: no text around them explains them."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from guie.report.svg import element, key, placed, svg, view_box

TITLE_H = 20
KEY_H = 16


def keyed(chart: str, title: str, keys: Sequence[tuple[str, str]]) -> Markup:
    """A chart below its title ('' is none) and a line for each key, which is a style and its meaning."""
    width, height = view_box(chart)
    head = TITLE_H * bool(title) + KEY_H * len(keys) + 4
    parts = [element("text", title, class_="label", x=8, y=15)] if title else []
    for i, (style, meaning) in enumerate(keys):
        y = head - KEY_H * (len(keys) - i) + 4
        parts.append(key(style, 10, y))
        parts.append(element("text", meaning, class_="value", x=38, y=y + 4))
    return svg(width, height + head, title, *parts, placed(chart, 0, head))


def grid(charts: Sequence[Sequence[str]], titles: Sequence[Sequence[str]]) -> Markup:
    """Charts of one size in rows and columns, a title above each; '' leaves a place empty."""
    width, height = view_box(next(chart for row in charts for chart in row if chart))
    row_h = height + TITLE_H
    parts = []
    for i, (row, names) in enumerate(zip(charts, titles, strict=True)):
        for j, (chart, name) in enumerate(zip(row, names, strict=True)):
            if chart:
                parts.append(element("text", name, class_="label", x=j * width + 8, y=i * row_h + 14))
                parts.append(placed(chart, j * width, i * row_h + TITLE_H))
    return svg(width * max(map(len, charts)), row_h * len(charts), "", *parts)
