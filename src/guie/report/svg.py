"""Builds SVG elements as text: values are escaped, elements within elements are not."""

from __future__ import annotations

from markupsafe import Markup

from guie.report.palette import kind, paint

OTHER = -1  # the kind of the points of a map that have no colour of their own
MARKER_R = 4.5  # half the width of a marker of the map
DIAMOND_R = 5.5  # half the width of the diamond that marks R@1 in a bar chart
# The corners of the markers that are no disc, in units of `MARKER_R`. All have about the same area.
SQUARE = ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9))
TRIANGLE = ((0, -1.3), (1.2, 0.8), (-1.2, 0.8))
DIAMOND = ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0))


def element(tag: str, *content: str, **attributes: str | float) -> Markup:
    """One SVG element.

    Args:
        tag: Its name.
        content: Elements and texts within it. A text is escaped; `Markup`, which the functions here return, is not.
        attributes: `class_` stands for `class`, `text_anchor` for `text-anchor`. A float is written with one decimal.
    """
    pairs = Markup("").join(_attribute(name, value) for name, value in attributes.items())
    if not content:
        return Markup("<{}{}/>").format(tag, pairs)
    return Markup("<{}{}>{}</{}>").format(tag, pairs, Markup("").join(content), tag)


def svg(width: float, height: float, title: str, *content: str) -> Markup:
    """A whole chart; screen readers read its title."""
    return element("svg", *content, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=title)


def title(text: str) -> Markup:
    """The tooltip of the element that it stands in."""
    return element("title", text)


def view_box(chart: str) -> tuple[float, float]:
    """Width and height of a chart."""
    sides = chart.split('viewBox="', 1)[1].split('"', 1)[0].split()
    return float(sides[2]), float(sides[3])


def label_of(chart: str) -> str:
    """What screen readers read of a chart."""
    return Markup(str(chart).split('aria-label="', 1)[1].split('"', 1)[0]).unescape()


def placed(chart: str, x: float, y: float) -> Markup:
    """A chart as an element of another one, with its upper left corner at (x, y)."""
    width, height = view_box(chart)
    place = f'<svg x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
    return Markup(str(chart).replace("<svg ", place, 1))  # a chart is made of escaped elements


def marker(number: int, x: float, y: float, *content: str, **attributes: str | float) -> Markup:
    """The sign of a domain or class on the map: a disc, a square, a triangle or a diamond, in turn.

    Args:
        number: Its number, which also decides the colour; `OTHER` is a grey disc.
        x: Of the centre.
        y: Of the centre.
        content: Elements within the sign.
        attributes: More attributes of the sign.
    """
    style = "other" if number == OTHER else kind(number)
    shape = 0 if number == OTHER else number % 4
    if shape == 0:
        return element("circle", *content, class_=style, **attributes, cx=float(x), cy=float(y), r=MARKER_R)
    corners = (SQUARE, TRIANGLE, DIAMOND)[shape - 1]
    points = " ".join(f"{x + dx * MARKER_R:.1f},{y + dy * MARKER_R:.1f}" for dx, dy in corners)
    return element("polygon", *content, class_=style, **attributes, points=points)


def diamond(style: str, x: float, y: float, *content: str) -> Markup:
    """A diamond around (x, y)."""
    r = DIAMOND_R
    points = f"{x - r:.1f},{y:.1f} {x:.1f},{y - r:.1f} {x + r:.1f},{y:.1f} {x:.1f},{y + r:.1f}"
    return element("polygon", *content, class_=style, points=points)


def whisker(low: float, high: float, y: float) -> Markup:
    """An interval: a horizontal line with ends, on a wider line that separates it from the bar below."""
    lines = ((low, high, y, y), (low, low, y - 4, y + 4), (high, high, y - 4, y + 4))
    parts = []
    for style in ("halo", "whisker"):
        parts += [element("line", class_=style, x1=x1, x2=x2, y1=y1, y2=y2) for x1, x2, y1, y2 in lines]
    return Markup("").join(parts)


def key(style: str, x: float, y: float) -> Markup:
    """What a style looks like, for a legend within a chart.

    Args:
        style: A style of the palette, or `map-2` for the marker of domain or class 2, and `map--1` for `OTHER`.
        x: Of the left edge.
        y: Of the middle.
    """
    if style.startswith("map-"):
        return marker(int(style.removeprefix("map-")), x + 11, y)
    if not paint(style).fill:
        return element("line", class_=style, x1=x, x2=x + 22, y1=y, y2=y)
    if style == "mark":
        return diamond(style, x + 11, y)
    return element("rect", class_=style, x=x + 5, y=y - 6, width=12, height=12, rx=2)


def _attribute(name: str, value: str | float) -> Markup:
    text = f"{value:.1f}" if isinstance(value, float) else str(value)
    return Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), text)
