"""Pictures of a run for a README or a paper: queries with their neighbours, and the ladder."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from html import escape

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from guie.report.collect import Scores
from guie.report.gallery import THUMB_PX, Neighbour, Query

RIGHT, WRONG, PLAIN, INK = "#1a7f37", "#cf222e", "#8c959f", "#24292f"  # readable on white; tick and cross say it without colour
N_ROWS = 2  # of each domain
MAX_ROWS = 12
GAP, FRAME, LEFT = 8, 4, 96
BAR_H, BAR_LEFT, BAR_W, RIGHT_W = 30, 250, 380, 70


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
    n = 1 + max(len(query.neighbours) for query in rows)
    cell = THUMB_PX + 2 * FRAME
    picture = Image.new("RGB", (LEFT + n * (cell + GAP) + 2 * GAP, GAP + len(rows) * (cell + GAP)), "white")
    draw = ImageDraw.Draw(picture)
    for i, query in enumerate(rows):
        top = GAP + i * (cell + GAP)
        if i == 0 or rows[i - 1].domain != query.domain:
            draw.text((GAP, top + cell // 2), query.domain, INK, _font(14), anchor="lm")
        _paste(picture, query.jpeg, LEFT, top, PLAIN)
        for rank, near in enumerate(query.neighbours):
            left = LEFT + 2 * GAP + (rank + 1) * (cell + GAP)
            colour = RIGHT if near.is_correct else WRONG if near.counts else PLAIN
            _paste(picture, near.jpeg, left, top, colour)
            _mark(draw, near, left + cell - 20, top + cell - 20, colour)
    return picture


def ladder_svg(table: pd.DataFrame) -> str:
    """The ladder as bars with their values, on a ground of its own: an SVG file.

    Args:
        table: setting, dim, mp5.
    """
    width, height = BAR_LEFT + BAR_W + RIGHT_W, BAR_H * len(table) + GAP
    parts = []
    for i, row in enumerate(table.itertuples()):
        top, is_last = GAP // 2 + i * BAR_H, i == len(table) - 1
        colour = "#0969da" if is_last else "#8db9e8"
        parts.append(f'<text x="{BAR_LEFT - 8}" y="{top + 19}" text-anchor="end">{escape(str(row.setting))}</text>')
        parts.append(f'<rect x="{BAR_LEFT}" y="{top + 4}" width="{BAR_W * row.mp5:.1f}" height="{BAR_H - 8}" fill="{colour}"/>')
        parts.append(f'<text x="{BAR_LEFT + BAR_W * row.mp5 + 6:.1f}" y="{top + 19}" font-weight="600">{row.mp5:.3f}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif" font-size="13"'
    return f'{head} fill="{INK}" role="img"><title>mP@5 on unseen classes</title><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'


def ladder_picture(table: pd.DataFrame) -> Image.Image:
    """The same as an image, at twice the size."""
    picture = Image.new("RGB", (2 * (BAR_LEFT + BAR_W + RIGHT_W), 2 * (BAR_H * len(table) + GAP)), "white")
    draw = ImageDraw.Draw(picture)
    for i, row in enumerate(table.itertuples()):
        top, end = GAP + 2 * i * BAR_H, 2 * BAR_LEFT + 2 * BAR_W * float(row.mp5)
        draw.text((2 * BAR_LEFT - 16, top + BAR_H), str(row.setting), INK, _font(26), anchor="rm")
        draw.rectangle((2 * BAR_LEFT, top + 8, end, top + 2 * BAR_H - 8), "#0969da" if i == len(table) - 1 else "#8db9e8")
        draw.text((end + 12, top + BAR_H), f"{row.mp5:.3f}", INK, _font(26), anchor="lm")
    return picture


def ladder_rows(scores: Scores) -> pd.DataFrame:
    """The settings up to the exported one."""
    return scores.table.iloc[: scores.final + 1]


def as_file(picture: Image.Image, kind: str) -> bytes:
    """The picture as a PNG or JPEG file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=85, optimize=True)
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


def _font(px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(px)
