"""The map of the embedding as SVG: a marker for each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from guie.report.svg import element, marker, svg, title

MAP_W = 720
MAP_H = 540
MAP_PAD = 16


@dataclass(frozen=True)
class Point:
    """One image on the map.

    Attributes:
        x: From 0 to 1.
        y: From 0 to 1.
        kind: The number of its domain, or of its class on the map of one domain, which colour and shape show; `OTHER`
            for the classes that have none.
        class_id: Its class.
        label: What the tooltip says.
    """

    x: float
    y: float
    kind: int
    class_id: int
    label: str


def map_chart(name: str, points: Sequence[Point]) -> Markup:
    """Points in the plane. `data-i` is the number of a point and `data-c` its class: the page's script needs both."""
    markers = []
    for i, point in enumerate(points):
        x = MAP_PAD + point.x * (MAP_W - 2 * MAP_PAD)
        y = MAP_PAD + point.y * (MAP_H - 2 * MAP_PAD)
        markers.append(marker(point.kind, x, y, title(point.label), data_i=i, data_c=point.class_id))
    return svg(MAP_W, MAP_H, name, *markers)


def marker_key(kind: int) -> Markup:
    """The marker of one kind, for a legend."""
    return element("svg", marker(kind, 7, 7), class_="key", viewBox="0 0 14 14", aria_hidden="true")
