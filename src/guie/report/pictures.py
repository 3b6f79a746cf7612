"""Pictures of a run for a README or a paper: queries with their neighbours as a JPEG, the page's charts as SVG and PNG."""

from __future__ import annotations

import base64
import io
import itertools
import math
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from guie.report.charts import view_box
from guie.report.gallery import THUMB_PX, Neighbour, Query
from guie.report.palette import LIGHT, Paint, marks_css, paint

RIGHT, WRONG, PLAIN, INK = "#1a7f37", "#cf222e", "#8c959f", "#24292f"  # readable on white; tick and cross say it without colour
N_ROWS = 2  # of each domain
MAX_ROWS = 12
GAP, FRAME, LEFT = 8, 4, 96
PNG_PX, OVERSAMPLING = 1_140, 2  # a PNG is at least so wide, and drawn twice as large
ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}


def neighbours_picture(queries: Sequence[Query]) -> Image.Image | None:
    """Random queries of each domain, each with its five nearest: right ones framed green with a tick, wrong ones red with a cross.

    Those that were picked at random are shown, not the best. Neighbours beyond the number of relevant images, which the metric does not
    count, have a grey frame when they are wrong. None without queries.
    """
    seen: Counter[str] = Counter()
    rows = []
    for query in queries:
        seen[query.domain] += query.picked == "random"
        if query.picked == "random" and seen[query.domain] <= N_ROWS:
            rows.append(query)
    rows = rows[:MAX_ROWS]
    if not rows:
        return None
    n = 1 + max(len(query.final.neighbours) for query in rows)
    cell = THUMB_PX + 2 * FRAME
    picture = Image.new("RGB", (LEFT + n * (cell + GAP) + 2 * GAP, GAP + len(rows) * (cell + GAP)), "white")
    draw = ImageDraw.Draw(picture)
    for i, query in enumerate(rows):
        top = GAP + i * (cell + GAP)
        if i == 0 or rows[i - 1].domain != query.domain:
            draw.text((GAP, top + cell // 2), query.domain, INK, _font(14), anchor="lm")
        _paste(picture, query.jpeg, LEFT, top, PLAIN)
        for rank, near in enumerate(query.final.neighbours):
            left = LEFT + 2 * GAP + (rank + 1) * (cell + GAP)
            colour = RIGHT if near.is_correct else WRONG if near.counts else PLAIN
            _paste(picture, near.jpeg, left, top, colour)
            _mark(draw, near, left + cell - 20, top + cell - 20, colour)
    return picture


def standalone(chart: str) -> str:
    """A chart of the page as an SVG file: light colours, on a white ground."""
    width, height = view_box(chart)
    style = marks_css(lambda name: LIGHT[name])
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" font-family="DejaVu Sans, Helvetica, Arial, sans-serif" '
    opening, content = chart.split(">", 1)
    return f'{head}{opening.removeprefix("<svg ")}><style>{style}</style><rect width="100%" height="100%" style="fill:#fff"/>{content}\n'


def raster(chart: str) -> Image.Image:
    """The same as an image, a whole number of times the size: Pillow draws the handful of elements that our charts are made of."""
    width, height = view_box(chart)
    scale = math.ceil(PNG_PX / width) * OVERSAMPLING
    picture = Image.new("RGB", (round(width * scale), round(height * scale)), "white")
    _draw(ImageDraw.Draw(picture), ET.fromstring(chart), 0.0, 0.0, scale)
    return picture.reduce(OVERSAMPLING)


def as_file(picture: Image.Image, kind: str) -> bytes:
    """The picture as a PNG or JPEG file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=85)
    return buffer.getvalue()


def _paste(picture: Image.Image, jpeg: str, left: int, top: int, colour: str) -> None:
    """A thumbnail in the middle of a framed square."""
    side = THUMB_PX + 2 * FRAME
    ImageDraw.Draw(picture).rectangle((left, top, left + side - 1, top + side - 1), "#f6f8fa", colour, FRAME)
    thumb = Image.open(io.BytesIO(base64.b64decode(jpeg)))
    picture.paste(thumb, (left + (side - thumb.width) // 2, top + (side - thumb.height) // 2))
    ImageDraw.Draw(picture).rectangle((left, top, left + side - 1, top + side - 1), None, colour, FRAME)


def _mark(draw: ImageDraw.ImageDraw, near: Neighbour, left: int, top: int, colour: str) -> None:
    """A tick or a cross on a disc in the corner."""
    draw.ellipse((left, top, left + 16, top + 16), colour)
    lines = [((4, 8), (7, 12)), ((7, 12), (12, 4))] if near.is_correct else [((4, 4), (12, 12)), ((12, 4), (4, 12))]
    for (x0, y0), (x1, y1) in lines:
        draw.line((left + x0, top + y0, left + x1, top + y1), "white", 2)


def _draw(draw: ImageDraw.ImageDraw, element: ET.Element, left: float, top: float, scale: float) -> None:
    """An element of a chart and all within it; `left` and `top` are where the chart that it belongs to begins, in its units."""

    def at(x: str, y: str) -> tuple[float, float]:
        return (left + float(element.get(x, 0))) * scale, (top + float(element.get(y, 0))) * scale

    own = paint(element.get("class", ""))
    if element.tag == "svg":
        left, top = left + float(element.get("x", 0)), top + float(element.get("y", 0))
    elif element.tag == "line":
        _stroke(draw, [at("x1", "y1"), at("x2", "y2")], own, scale)
    elif element.tag == "rect":
        (x, y), w, h = at("x", "y"), float(element.get("width", 0)) * scale, float(element.get("height", 0)) * scale
        draw.rounded_rectangle((x, y, x + w, y + h), min(w / 2, float(element.get("rx", 0)) * scale), LIGHT[own.fill])
    elif element.tag == "circle":
        draw.circle(at("cx", "cy"), float(element.get("r", 0)) * scale, LIGHT[own.fill])
    elif element.tag in ("polygon", "polyline"):
        pairs = [pair.split(",") for pair in element.get("points", "").split()]
        points = [((left + float(x)) * scale, (top + float(y)) * scale) for x, y in pairs]
        if own.fill:
            draw.polygon(points, LIGHT[own.fill])
        _stroke(draw, [*points, *points[:2]] if element.tag == "polygon" else points, own, scale)
    elif element.tag == "text" and element.text:
        anchor = ANCHORS[element.get("text-anchor", "start")]
        draw.text(at("x", "y"), element.text, LIGHT[own.fill], _font(round(own.font_px * scale), own.is_bold), anchor)
    for inner in element:
        _draw(draw, inner, left, top, scale)


def _stroke(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], own: Paint, scale: float) -> None:
    """A line through points, dashed where its paint is: Pillow knows no dashes, so each piece of a unit's length is drawn or left out."""
    if not own.stroke or len(points) < 2:
        return
    width = max(1, round(own.width * scale))
    if not own.dash:
        draw.line(points, LIGHT[own.stroke], width, joint="curve")
        return
    on, off = (length * scale for length in own.dash)
    done = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        length = math.hypot(x1 - x0, y1 - y0)
        n = math.ceil(length / scale)
        for k in range(n):
            if (done + (k + 0.5) / n * length) % (on + off) < on:
                ends = [(x0 + (x1 - x0) * i / n, y0 + (y1 - y0) * i / n) for i in (k, k + 1)]
                draw.line(ends, LIGHT[own.stroke], width)
        done += length


@cache
def _font(px: int, is_bold: bool = False) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu where the machine has it, for accents and signs; else the one within Pillow."""
    try:
        return ImageFont.truetype("DejaVuSans-Bold.ttf" if is_bold else "DejaVuSans.ttf", px)
    except OSError:
        return ImageFont.load_default(px)
