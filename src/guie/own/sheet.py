"""Contact sheets: rows of small pictures with a text below each, as one image."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL_PX = 180
GAP_PX = 10
FONT_PX = 12
N_LINES = 3  # of the text below a picture
LINE_PX = 15
COLUMNS = 26  # characters in a line
INK = "#24292f"


def contact_sheet(rows: Sequence[Sequence[tuple[np.ndarray, str]]]) -> Image.Image:
    """Rows of pictures, each with its text.

    Args:
        rows: Pictures, uint8 [h, w, 3], with texts; at least one row of at least one picture.
    """
    height = CELL_PX + N_LINES * LINE_PX + GAP_PX
    n_columns = max(map(len, rows))
    size = (GAP_PX + n_columns * (CELL_PX + GAP_PX), GAP_PX + len(rows) * height)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_PX)
    for i, row in enumerate(rows):
        for k, (pixels, text) in enumerate(row):
            left = GAP_PX + k * (CELL_PX + GAP_PX)
            top = GAP_PX + i * height
            picture = Image.fromarray(pixels)
            picture.thumbnail((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)
            sheet.paste(picture, (left + (CELL_PX - picture.width) // 2, top + (CELL_PX - picture.height) // 2))
            for number, line in enumerate(_lines(text)):
                draw.text((left, top + CELL_PX + number * LINE_PX), line, INK, font)
    return sheet


def _lines(text: str) -> list[str]:
    """At most `N_LINES` lines; of a longer text the end is kept, where the name of the file is."""
    lines = [line for part in text.split("\n") for line in textwrap.wrap(part, COLUMNS) or [""]]
    return lines if len(lines) <= N_LINES else ["…" + lines[-N_LINES][1:], *lines[1 - N_LINES :]]
