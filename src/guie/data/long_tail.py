"""The picture of door 02: images per class of every source, from the largest class to the smallest, before and after
balancing."""

from __future__ import annotations

import math
from html import escape

import numpy as np
import pandas as pd

COLOURS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#cf222e", "#9a6700", "#1b7c83", "#bf3989")
DASHES = ("", "7 3", "2 3")  # after eight sources the colours repeat with other strokes
INK, GRID, SOFT = "#24292f", "#d0d7de", "#57606a"
PANEL_W, PANEL_H, LEFT, TOP, GAP, LINE_H = 380, 260, 60, 44, 70, 18
LEGEND_TOP = TOP + PANEL_H + 52
N_POINTS = 120  # most points of a line, evenly spaced in the logarithm of the rank


def long_tail_svg(classes: pd.DataFrame) -> str:
    """Two panels side by side with logarithmic axes: the images of each training class as found, and its rows after
    balancing.

    Args:
        classes: source, split, n_images, n_rows; one row per class.

    Returns:
        The text of an SVG file with a white background.
    """
    train = classes[classes["split"] == "train"]
    n_most = int(train.groupby("source").size().max())
    size_most = int(train[["n_images", "n_rows"]].to_numpy().max())
    parts = _panel(train, "n_images", "images found", LEFT, n_most, size_most)
    parts += _panel(train, "n_rows", "rows to train on", LEFT + PANEL_W + GAP, n_most, size_most)
    parts += _legend(train)
    return _svg("".join(parts), train["source"].nunique())


def _svg(drawn: str, n_sources: int) -> str:
    """The SVG file: `drawn` on a white background, with room for a legend of `n_sources` lines."""
    width = LEFT + 2 * PANEL_W + GAP + 40
    height = LEGEND_TOP + LINE_H * n_sources
    place = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {place} font-family="sans-serif" font-size="12"'
    name = "<title>images per training class of each source</title>"
    ground = '<rect width="100%" height="100%" fill="white"/>'
    return f'{head} fill="{INK}" role="img">{name}{ground}{drawn}</svg>\n'


def _panel(train: pd.DataFrame, column: str, title: str, left: float, n_most: int, size_most: int) -> list[str]:
    """One panel: its title, its axes and a line for each source.

    Args:
        train: source and `column`; one row per training class.
        column: The sizes that are shown.
        title: Stands above.
        left: Left edge of the panel, px.
        n_most: Largest number of classes of a source, for the horizontal axis.
        size_most: Largest size, for the vertical axis.
    """
    parts = [f'<text x="{left}" y="{TOP - 16}" font-weight="600">{title}</text>']
    parts += _axes(left, n_most, size_most)
    for i, (_, group) in enumerate(train.groupby("source")):
        sizes = np.sort(group[column].to_numpy())[::-1]
        points = [_at(rank + 1, int(sizes[rank]), left, n_most, size_most) for rank in _ranks(len(sizes))]
        parts += _line(points, i)
    return parts


def _line(points: list[tuple[float, float]], i: int) -> list[str]:
    """The line of source number `i`, and a dot where it has one point only."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    line = f'<polyline points="{path}" fill="none" {_stroke(i)}/>'
    if len(points) > 1:
        return [line]
    ((x, y),) = points
    return [line, f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[i % len(COLOURS)]}"/>']


def _legend(train: pd.DataFrame) -> list[str]:
    """For each source a line with its stroke, its name and its numbers of classes, images and rows."""
    groups = train.groupby("source")
    counts = groups.agg(n_classes=("n_rows", "size"), n_images=("n_images", "sum"), n_rows=("n_rows", "sum"))
    parts = []
    for i, (source, *numbers) in enumerate(counts.itertuples(name=None)):
        y = LEGEND_TOP + LINE_H * i
        text = "{:,} classes, {:,} images, {:,} rows".format(*map(int, numbers))
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + 30}" y1="{y}" y2="{y}" {_stroke(i)}/>')
        parts.append(f'<text x="{LEFT + 38}" y="{y + 4}">{escape(source)}: {text}</text>')
    return parts


def _ranks(n: int) -> list[int]:
    """At most `N_POINTS` of the positions 0 to n - 1, evenly spaced in the logarithm of the rank."""
    return sorted({round(rank) - 1 for rank in np.geomspace(1, n, min(n, N_POINTS))})


def _at(rank: float, size: float, left: float, n_most: int, size_most: int) -> tuple[float, float]:
    across = math.log10(rank) / _decades(n_most)
    up = math.log10(max(size, 1)) / _decades(size_most)
    return left + across * PANEL_W, TOP + PANEL_H * (1 - up)


def _decades(most: int) -> int:
    return max(1, math.ceil(math.log10(max(most, 1))))


def _axes(left: float, n_most: int, size_most: int) -> list[str]:
    bottom = TOP + PANEL_H
    parts = []
    for power in range(_decades(n_most) + 1):
        x, _ = _at(10**power, 1, left, n_most, size_most)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}" stroke="{GRID}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" fill="{SOFT}">{10**power:,}</text>')
    for power in range(_decades(size_most) + 1):
        _, y = _at(1, 10**power, left, n_most, size_most)
        parts.append(f'<line x1="{left}" x2="{left + PANEL_W}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end" fill="{SOFT}">{10**power:,}</text>')
    title = "rank of the class, the largest first"
    parts.append(f'<text x="{left + PANEL_W / 2}" y="{bottom + 33}" text-anchor="middle" fill="{SOFT}">{title}</text>')
    return parts


def _stroke(i: int) -> str:
    dashes = DASHES[i // len(COLOURS) % len(DASHES)]
    return f'stroke="{COLOURS[i % len(COLOURS)]}" stroke-width="2" stroke-dasharray="{dashes}"'
