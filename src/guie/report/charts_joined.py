"""Charts with their titles and legends as one SVG, for the files beside the page: no text around them explains them."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from guie.report.svg import element, key, label_of, placed, svg, view_box

TITLE_H = 20
KEY_H = 16


def keyed(chart: str, title: str, keys: Sequence[tuple[str, str]]) -> Markup:
    """A chart below its title ('' is none) and a line for each key, which is a style and its meaning."""
    width, height = view_box(chart)
    head = TITLE_H * bool(title) + KEY_H * len(keys) + 4
    parts = [element("text", title, class_="label", x=8, y=15)] if title else []
    parts += _keys(keys, 0, head - KEY_H * len(keys) - 4)
    return svg(width, height + head, title or label_of(chart), *parts, placed(chart, 0, head))


def grid(
    charts: Sequence[Sequence[str]],
    titles: Sequence[Sequence[str]],
    keys: Sequence[Sequence[Sequence[tuple[str, str]]]] = (),
) -> Markup:
    """Charts of one size in rows and columns, a title above each and its keys below it; '' leaves a place empty.

    Args:
        charts: Row by row.
        titles: Of each chart.
        keys: Of each chart, a style and its meaning each; a chart of one line needs none. Empty: no chart has keys.
    """
    width, height = view_box(next(chart for row in charts for chart in row if chart))
    parts, named = [], []
    top = 0.0
    for i, (row, names) in enumerate(zip(charts, titles, strict=True)):
        own_keys = keys[i] if keys else [()] * len(row)
        for j, (chart, name) in enumerate(zip(row, names, strict=True)):
            if chart:
                named.append(name)
                parts.append(element("text", name, class_="label", x=j * width + 8, y=top + 14))
                parts.append(placed(chart, j * width, top + TITLE_H))
                parts += _keys(own_keys[j], j * width, top + TITLE_H + height)
        top += TITLE_H + height + KEY_H * max(map(len, own_keys))
    return svg(width * max(map(len, charts)), top, "; ".join(named), *parts)


def _keys(keys: Sequence[tuple[str, str]], left: float, top: float) -> list[Markup]:
    """A line for each key, from `top` down."""
    parts = []
    for i, (style, meaning) in enumerate(keys):
        y = top + KEY_H * (i + 0.5)
        parts.append(key(style, left + 10, y))
        parts.append(element("text", meaning, class_="value", x=left + 38, y=y + 4))
    return parts
