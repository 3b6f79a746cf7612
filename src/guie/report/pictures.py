"""Pictures for a README or a paper: queries with their neighbours as JPEG, the page's charts as SVG and PNG."""

from __future__ import annotations

import base64
import io
import itertools
import math
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from guie.report.album import THUMB_PX
from guie.report.gallery import Neighbour, Query
from guie.report.markup import filled
from guie.report.palette import LIGHT, PAINTS, Paint, paint
from guie.report.svg import view_box

# Readable on white; a tick or a cross says the same without colour.
RIGHT = "#1a7f37"
WRONG = "#cf222e"
PLAIN = "#8c959f"
INK = "#24292f"
N_ROWS = 2  # of each domain
MAX_ROWS = 12
GAP = 8  # between the thumbnails
FRAME = 4  # around each of them
LEFT = 96  # for the names of the domains
CELL = THUMB_PX + 2 * FRAME
DISC = 16  # side of a tick's or cross's disc
TICK = (((4, 8), (7, 12)), ((7, 12), (12, 4)))
CROSS = (((4, 4), (12, 12)), ((12, 4), (4, 12)))
PNG_PX = 1_140  # a PNG is at least so wide
OVERSAMPLING = 2  # it is drawn so many times as large, and then reduced
ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}


def neighbours_picture(queries: Sequence[Query]) -> Image.Image | None:
    """Random queries of each domain, each with its nearest images: right ones with a tick, wrong ones with a cross.

    The queries are those that were picked at random, not the best. A wrong image that the metric does not count has a
    grey frame: the class has fewer other images than are shown. None without queries.
    """
    rows = _shown(queries)
    if not rows:
        return None
    n_columns = 1 + max(len(query.final.neighbours) for query in rows)
    size = (LEFT + n_columns * (CELL + GAP) + 2 * GAP, GAP + len(rows) * (CELL + GAP))
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    for i, query in enumerate(rows):
        top = GAP + i * (CELL + GAP)
        if i == 0 or rows[i - 1].domain != query.domain:
            draw.text((GAP, top + CELL // 2), query.domain, INK, _font(14), anchor="lm")
        _paste(picture, query.jpeg, LEFT, top, PLAIN)
        for rank, near in enumerate(query.final.neighbours):
            left = LEFT + 2 * GAP + (rank + 1) * (CELL + GAP)
            _paste(picture, near.jpeg, left, top, _colour(near))
            _mark(draw, near, left + CELL - DISC - FRAME, top + CELL - DISC - FRAME)
    return picture


def standalone(chart: str) -> str:
    """A chart of the page as an SVG file: light colours, on a white ground."""
    width, height = view_box(chart)
    style = filled("marks.css", paints=PAINTS, colour=LIGHT.__getitem__)
    size = f'width="{width:g}" height="{height:g}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="DejaVu Sans, Helvetica, Arial, sans-serif" '
    opening, content = str(chart).split(">", 1)
    ground = '<rect width="100%" height="100%" style="fill:#fff"/>'
    return f"{head}{opening.removeprefix('<svg ')}><style>{style}</style>{ground}{content}\n"


def raster(chart: str) -> Image.Image:
    """The same as an image, a whole number of times as large: Pillow draws the few elements that our charts have."""
    width, height = view_box(chart)
    scale = math.ceil(PNG_PX / width) * OVERSAMPLING
    picture = Image.new("RGB", (round(width * scale), round(height * scale)), "white")
    _Pen(ImageDraw.Draw(picture), scale).draw(ET.fromstring(chart))
    return picture.reduce(OVERSAMPLING)


def as_file(picture: Image.Image, kind: str) -> bytes:
    """The picture as a PNG or JPEG file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=85)
    return buffer.getvalue()


def _shown(queries: Sequence[Query]) -> list[Query]:
    """The first random queries of each domain."""
    n_seen: Counter[str] = Counter()
    rows = []
    for query in queries:
        if query.picked == "random" and n_seen[query.domain] < N_ROWS:
            n_seen[query.domain] += 1
            rows.append(query)
    return sorted(rows, key=lambda query: query.domain)[:MAX_ROWS]


def _colour(near: Neighbour) -> str:
    if near.is_correct:
        return RIGHT
    return WRONG if near.counts else PLAIN


def _paste(picture: Image.Image, jpeg: str, left: int, top: int, colour: str) -> None:
    """A thumbnail in the middle of a framed square."""
    box = (left, top, left + CELL - 1, top + CELL - 1)
    draw = ImageDraw.Draw(picture)
    draw.rectangle(box, "#f6f8fa")
    thumb = Image.open(io.BytesIO(base64.b64decode(jpeg)))
    thumb.thumbnail((THUMB_PX, THUMB_PX))
    picture.paste(thumb, (left + (CELL - thumb.width) // 2, top + (CELL - thumb.height) // 2))
    draw.rectangle(box, None, colour, FRAME)


def _mark(draw: ImageDraw.ImageDraw, near: Neighbour, left: int, top: int) -> None:
    """A tick or a cross on a disc."""
    draw.ellipse((left, top, left + DISC, top + DISC), _colour(near))
    for (x0, y0), (x1, y1) in TICK if near.is_correct else CROSS:
        draw.line((left + x0, top + y0, left + x1, top + y1), "white", 2)


@dataclass(frozen=True)
class _Pen:
    """Draws the elements of a chart.

    Attributes:
        canvas: What it draws on.
        scale: Pixels for a unit of the chart.
        left: Where the chart begins that the elements belong to, in units: a chart may lie within another.
        top: The same from above.
    """

    canvas: ImageDraw.ImageDraw
    scale: float
    left: float = 0.0
    top: float = 0.0

    def draw(self, element: ET.Element) -> None:
        """An element and all within it."""
        if element.tag == "svg":
            left = self.left + _get(element, "x")
            top = self.top + _get(element, "y")
            inner = replace(self, left=left, top=top)
        else:
            self._draw_alone(element)
            inner = self
        for child in element:
            inner.draw(child)

    def _draw_alone(self, element: ET.Element) -> None:
        own = paint(element.get("class", ""))
        match element.tag:
            case "line":
                ends = [self._at(_get(element, f"x{i}"), _get(element, f"y{i}")) for i in (1, 2)]
                self._stroke(ends, own)
            case "rect":
                self._rectangle(element, own)
            case "circle":
                centre = self._at(_get(element, "cx"), _get(element, "cy"))
                self.canvas.circle(centre, _get(element, "r") * self.scale, LIGHT[own.fill])
            case "polygon" | "polyline":
                self._corners(element, own)
            case "text":
                self._text(element, own)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return (self.left + x) * self.scale, (self.top + y) * self.scale

    def _rectangle(self, element: ET.Element, own: Paint) -> None:
        x, y = self._at(_get(element, "x"), _get(element, "y"))
        width = _get(element, "width") * self.scale
        height = _get(element, "height") * self.scale
        radius = min(width / 2, _get(element, "rx") * self.scale)
        self.canvas.rounded_rectangle((x, y, x + width, y + height), radius, LIGHT[own.fill])

    def _corners(self, element: ET.Element, own: Paint) -> None:
        pairs = [pair.split(",") for pair in element.get("points", "").split()]
        points = [self._at(float(x), float(y)) for x, y in pairs]
        if own.fill:
            self.canvas.polygon(points, LIGHT[own.fill])
        # A closed line goes on to its second point, so that the corner at its first one is joined like the others.
        self._stroke([*points, *points[:2]] if element.tag == "polygon" else points, own)

    def _text(self, element: ET.Element, own: Paint) -> None:
        if element.text:
            anchor = ANCHORS[element.get("text-anchor", "start")]
            font = _font(round(own.font_px * self.scale), own.is_bold)
            at = self._at(_get(element, "x"), _get(element, "y"))
            self.canvas.text(at, element.text, LIGHT[own.fill], font, anchor)

    def _stroke(self, points: list[tuple[float, float]], own: Paint) -> None:
        """A line through points, dashed where its paint is."""
        if not own.stroke or len(points) < 2:
            return
        width = max(1, round(own.width * self.scale))
        if own.dash:
            for ends in self._dashes(points, own):
                self.canvas.line(ends, LIGHT[own.stroke], width)
        else:
            self.canvas.line(points, LIGHT[own.stroke], width, joint="curve")

    def _dashes(self, points: list[tuple[float, float]], own: Paint) -> list[list[tuple[float, float]]]:
        """What a dashed line shows, in pieces of a unit's length: Pillow itself knows no dashes."""
        on, off = (length * self.scale for length in own.dash)
        pieces = []
        done = 0.0
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            length = math.hypot(x1 - x0, y1 - y0)
            n = math.ceil(length / self.scale)
            for k in range(n):
                if (done + (k + 0.5) / n * length) % (on + off) < on:
                    pieces.append([(x0 + (x1 - x0) * i / n, y0 + (y1 - y0) * i / n) for i in (k, k + 1)])
            done += length
        return pieces


def _get(element: ET.Element, name: str) -> float:
    return float(element.get(name, 0))


@cache
def _font(px: int, is_bold: bool = False) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu where the machine has it, because it has accents and signs; else the font within Pillow."""
    try:
        return ImageFont.truetype("DejaVuSans-Bold.ttf" if is_bold else "DejaVuSans.ttf", px)
    except OSError:
        return ImageFont.load_default(px)
