"""The artworks of the drawn world: framed pictures of six kinds, each with a composition, a palette and one detail."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from guie.synthetic.drawing import Part
from guie.synthetic.skins import Colour, darker, plain, tint
from guie.synthetic.solids import Dice

LONG_PX = 144  # longer side of a painted canvas


def artwork(dice: Dice) -> list[Part]:
    """A framed picture that stands on its lower edge."""
    aspect = float(dice.form.choice([0.7, 0.8, 1.0, 1.25, 1.4]))
    width, height = (1.0, 1.0 / aspect) if aspect >= 1 else (aspect, 1.0)  # half sides
    picture = _picture(dice, round(LONG_PX * height), round(LONG_PX * width))
    border = dice.size(0.06, 0.16)
    mat = float(dice.form.choice([0.0, 0.0, 0.1]))
    wood = tint(dice.skin, (0.2, 0.7), (0.2, 0.8))
    outer_w = width + border + mat
    outer_h = height + border + mat
    parts = [Part("block", (0, outer_h, 0), (outer_w, outer_h, 0.06), plain(wood), gloss=0.1)]
    if mat:
        parts.append(Part("block", (0, outer_h, 0.0), (width + mat, height + mat, 0.07), plain((238, 234, 224))))
    return [*parts, Part("block", (0, outer_h, 0.0), (width, height, 0.08), picture[None])]


def _picture(dice: Dice, height: int, width: int) -> np.ndarray:
    """A painting of one of the kinds, uint8 [height, width, 3]."""
    kinds: tuple[Callable[[Dice, int, int], np.ndarray], ...] = (
        *(_landscape, _portrait, _still_life),
        *(_blocks, _discs, _seascape),
    )
    return _brushed(kinds[dice.count(0, len(kinds))](dice, height, width), dice.form)


def _brushed(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Adds the grain of brush strokes along one direction."""
    height, width = picture.shape[:2]
    length = int(rng.integers(3, 12))
    grain = rng.uniform(-1, 1, (height, width)).astype(np.float32)
    strokes = cv2.blur(grain, (length, 1) if rng.random() < 0.5 else (1, length))
    return np.clip(picture + (strokes * rng.uniform(10, 50))[..., None], 0, 255).astype(np.uint8)


def _canvas(height: int, width: int, top: Colour, bottom: Colour) -> np.ndarray:
    """A gradient from one colour at the top to another at the bottom, uint8 [height, width, 3]."""
    slope = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    column = np.array(top, np.float32) * (1 - slope) + np.array(bottom, np.float32) * slope
    return np.repeat(column.astype(np.uint8), width, axis=1)


def _disc(art: np.ndarray, middle: tuple[int, int], radius: int, colour: Colour) -> None:
    """Draws a filled circle."""
    cv2.circle(art, middle, radius, colour, -1, cv2.LINE_AA)


def _oval(
    art: np.ndarray,
    middle: tuple[int, int],
    radii: tuple[int, int],
    colour: Colour,
    tilt_deg: float = 0.0,
) -> None:
    """Draws a filled ellipse."""
    cv2.ellipse(art, middle, radii, tilt_deg, 0, 360, colour, -1, cv2.LINE_AA)


def _polygon(art: np.ndarray, corners: npt.ArrayLike, colour: Colour) -> None:
    """Draws a filled polygon of corners [n, 2] (x, y)."""
    cv2.fillPoly(art, [np.asarray(corners).astype(np.int32)], colour, cv2.LINE_AA)


def _fill_below(art: np.ndarray, x: np.ndarray, y: np.ndarray, colour: Colour) -> None:
    """Fills all that lies below the line through the points (x, y), each float [n]."""
    height, width = art.shape[:2]
    _polygon(art, np.concatenate([np.stack([x, y], 1), [[width, height], [0, height]]]), colour)


def _sun(art: np.ndarray, d: Dice, low: float) -> None:
    """Draws a sun above the height `low` (0..1); its place, size and colour are details."""
    height, width = art.shape[:2]
    middle = (int(width * d.detail.uniform(0.12, 0.88)), int(height * d.detail.uniform(0.1, low)))
    radius = int(min(height, width) * d.detail.uniform(0.06, 0.14))
    _disc(art, middle, radius, tint(d.detail, (0.3, 1.0), (0.8, 1.0)))


def _landscape(d: Dice, height: int, width: int) -> np.ndarray:
    """Hills before a sky with a sun, trees on the nearest."""
    art = _canvas(height, width, tint(d.skin, (0.2, 0.9)), tint(d.skin, (0.05, 0.5), (0.7, 1.0)))
    _sun(art, d, 0.4)
    x = np.linspace(0, width, 24)
    for layer, base in enumerate(np.sort(d.form.uniform(0.35, 0.8, d.count(2, 5)))):
        depth = height * d.size(0.03, 0.14)
        ridge = base * height + depth * np.sin(x / width * d.size(3, 14) + d.size(0, 6))
        _fill_below(art, x, ridge, tint(d.skin, (0.3, 0.9), (0.25 + 0.1 * layer, 0.9)))
    leaf = tint(d.skin, (0.4, 0.9), (0.2, 0.6))
    trunk = tint(d.skin, (0.3, 0.6), (0.15, 0.4))
    for _ in range(d.count(1, 6)):
        _tree(art, d, leaf, trunk)
    return art


def _tree(art: np.ndarray, d: Dice, leaf: Colour, trunk: Colour) -> None:
    """Draws a tree somewhere in the lower part of a picture."""
    height, width = art.shape[:2]
    x = int(d.size(0.05, 0.95) * width)
    foot = int(d.size(0.72, 0.97) * height)
    size = int(d.size(0.06, 0.16) * height)
    cv2.line(art, (x, foot), (x, foot - size), trunk, max(1, size // 6), cv2.LINE_AA)
    _oval(art, (x, foot - size), (int(size * 0.6), int(size * 0.9)), leaf)


def _portrait(d: Dice, height: int, width: int) -> np.ndarray:
    """Head and shoulders; the detail is the garment's colour and a hat or a flower."""
    art = _canvas(height, width, tint(d.skin, (0.2, 0.8), (0.2, 0.7)), tint(d.skin, (0.2, 0.8), (0.1, 0.6)))
    face = darker((238, 196, 165), d.size(0.5, 1.0))
    hair = tint(d.skin, (0.2, 0.9), (0.1, 0.7))
    cx = int(width * d.size(0.4, 0.6))
    cy = int(height * d.size(0.36, 0.44))
    r = int(min(height, width) * d.size(0.16, 0.22))
    hair_length = int(r * d.size(0.9, 2.0))
    _oval(art, (cx, cy + hair_length // 3), (int(r * 1.25), r + hair_length // 2), hair)
    _oval(art, (cx, height), (int(width * d.size(0.3, 0.45)), int(height * 0.36)), tint(d.detail))
    cv2.rectangle(art, (cx - r // 3, cy), (cx + r // 3, cy + int(r * 1.6)), darker(face, 0.85), -1)
    _face(art, (cx, cy), r, face, d.size(-12, 12))
    _hat_or_flower(art, d, (cx, cy), r)
    return art


def _face(art: np.ndarray, middle: tuple[int, int], r: int, colour: Colour, tilt_deg: float) -> None:
    """Draws a face of about radius r with eyes and a mouth."""
    cx, cy = middle
    stroke = max(1, r // 9)
    _oval(art, middle, (int(r * 0.85), int(r * 1.1)), colour, tilt_deg)
    for side in (-1, 1):
        _disc(art, (cx + side * r // 3, cy - r // 8), stroke, (40, 34, 40))
    mouth = cy + r // 2
    cv2.line(art, (cx - r // 4, mouth), (cx + r // 4, mouth), (160, 70, 70), stroke, cv2.LINE_AA)


def _hat_or_flower(art: np.ndarray, d: Dice, middle: tuple[int, int], r: int) -> None:
    """Draws a hat on a head of radius r, or a flower beside it."""
    cx, cy = middle
    if d.form.random() < 0.5:
        _oval(art, (cx, cy - int(r * 0.9)), (int(r * 1.3), int(r * 0.45)), tint(d.detail))
        return
    side = int(d.detail.choice([-1, 1]))
    _disc(art, (cx + side * r, cy - r // 2), max(2, r // 4), tint(d.detail, (0.7, 1), (0.7, 1)))


def _still_life(d: Dice, height: int, width: int) -> np.ndarray:
    """A vase and fruits on a table; one fruit is the detail."""
    art = _canvas(height, width, tint(d.skin, (0.1, 0.7), (0.2, 0.8)), tint(d.skin, (0.1, 0.7), (0.2, 0.7)))
    table = int(height * d.size(0.6, 0.75))
    cv2.rectangle(art, (0, table), (width, height), tint(d.skin, (0.2, 0.7), (0.3, 0.9)), -1)
    _vase(art, d, table + int(height * 0.1))
    _fruits(art, d, table)
    return art


def _vase(art: np.ndarray, d: Dice, foot: int) -> None:
    """Draws a vase with flowers that stands on row `foot`."""
    height, width = art.shape[:2]
    colour = tint(d.skin)
    cx = int(width * d.size(0.25, 0.75))
    w = int(width * d.size(0.07, 0.13))
    h = int(height * d.size(0.2, 0.4))
    _oval(art, (cx, foot - h // 2), (w, h // 2), colour)
    cv2.rectangle(art, (cx - w // 2, foot - h - h // 5), (cx + w // 2, foot - h // 2), colour, -1)
    for _ in range(d.count(2, 7)):
        top = (cx + int(d.size(-2.2, 2.2) * w), foot - h - int(height * d.size(0.08, 0.26)))
        cv2.line(art, (cx, foot - h), top, (52, 96, 50), 2, cv2.LINE_AA)
        _disc(art, top, max(3, int(w * d.size(0.3, 0.6))), tint(d.skin, (0.5, 1), (0.6, 1)))


def _fruits(art: np.ndarray, d: Dice, table: int) -> None:
    """Draws three to six fruits on a table whose far edge is row `table`; the colour of the last is a detail."""
    height, width = art.shape[:2]
    n = d.count(3, 7)
    for k in range(n):
        middle = (int(width * d.size(0.1, 0.9)), table + int(height * d.size(0.06, 0.18)))
        radius = int(min(height, width) * d.size(0.05, 0.09))
        _disc(art, middle, radius, tint(d.detail if k == n - 1 else d.skin, (0.6, 1), (0.5, 1)))


def _blocks(d: Dice, height: int, width: int) -> np.ndarray:
    """A grid of lines with coloured fields; two fields are the detail."""
    art = np.full((height, width, 3), (240, 236, 226), np.uint8)
    rows = _cuts(d, height)
    columns = _cuts(d, width)
    _fill_fields(art, d, rows, columns)
    ink = tint(d.skin, (0, 0.3), (0.05, 0.25))
    thickness = d.count(2, 6)
    for y in rows:
        cv2.line(art, (0, y), (width, y), ink, thickness)
    for x in columns:
        cv2.line(art, (x, 0), (x, height), ink, thickness)
    return art


def _cuts(d: Dice, side: int) -> list[int]:
    """The positions of a grid's lines along a side of `side` pixels: its ends and two to four between, sorted."""
    inner = d.form.uniform(0.1, 0.9, d.count(2, 5))
    return (np.sort(np.concatenate([[0.0, 1.0], inner])) * side).astype(int).tolist()


def _fill_fields(art: np.ndarray, d: Dice, rows: list[int], columns: list[int]) -> None:
    """Colours half of the fields between the lines of a grid, at least three; the first two are the detail."""
    fields = list(itertools.product(itertools.pairwise(rows), itertools.pairwise(columns)))
    chosen = d.form.permutation(len(fields))
    for k, i in enumerate(chosen[: max(3, len(fields) // 2)]):
        (top, bottom), (left, right) = fields[int(i)]
        colour = tint(d.detail if k < 2 else d.skin, (0.6, 1), (0.3, 1))
        cv2.rectangle(art, (left, top), (right, bottom), colour, -1)


def _discs(d: Dice, height: int, width: int) -> np.ndarray:
    """Discs, rings and bars in the air; the largest disc is the detail."""
    art = _canvas(height, width, tint(d.skin, (0.0, 0.3), (0.8, 1.0)), tint(d.skin, (0.0, 0.4), (0.7, 1.0)))
    side = min(height, width)
    _bars(art, d)
    for k in range(d.count(4, 10)):
        middle = _somewhere(art, d, 0.1, 0.9)
        r = int(side * d.size(0.04, 0.16))
        cv2.circle(art, middle, r, tint(d.skin), -1 if k % 3 else max(2, r // 3), cv2.LINE_AA)
    middle = _somewhere(art, d, 0.3, 0.7)
    for share in (0.3, 0.2, 0.1):
        _disc(art, middle, int(side * share), tint(d.detail))
    return art


def _bars(art: np.ndarray, d: Dice) -> None:
    """Draws three to seven straight bars."""
    for _ in range(d.count(3, 8)):
        start = _somewhere(art, d, 0, 1)
        end = _somewhere(art, d, 0, 1)
        cv2.line(art, start, end, tint(d.skin, (0.2, 1), (0.1, 0.7)), d.count(1, 6), cv2.LINE_AA)


def _somewhere(art: np.ndarray, d: Dice, low: float, high: float) -> tuple[int, int]:
    """A random pixel (x, y); both coordinates lie between these shares of the picture's sides."""
    height, width = art.shape[:2]
    x = int(d.size(low, high) * width)
    return x, int(d.size(low, high) * height)


def _seascape(d: Dice, height: int, width: int) -> np.ndarray:
    """A boat on waves; its sail, its place and the sun are the detail."""
    art = _canvas(height, width, tint(d.skin, (0.3, 0.8)), tint(d.skin, (0.1, 0.6), (0.7, 1.0)))
    _sun(art, d, 0.35)
    _waves(art, d)
    _boat(art, d)
    return art


def _waves(art: np.ndarray, d: Dice) -> None:
    """Draws a sea of waves, from a flat horizon to the lower edge."""
    height, width = art.shape[:2]
    sea = np.array(tint(d.skin, (0.4, 0.9), (0.3, 0.8)), float)
    horizon = d.size(0.45, 0.6)
    n = d.count(4, 9)
    x = np.linspace(0, width, 40)
    for k in range(n):
        swell = 0.02 * np.sin(x / width * d.size(12, 40) + d.size(0, 6)) * (k > 0)
        wave = height * (horizon + (1 - horizon) * k / n + swell)
        red, green, blue = (int(c) for c in np.clip(sea * (0.8 + 0.5 * k / n), 0, 255))
        _fill_below(art, x, wave, (red, green, blue))


def _boat(art: np.ndarray, d: Dice) -> None:
    """Draws a boat with two sails."""
    height, width = art.shape[:2]
    cx = int(width * d.detail.uniform(0.2, 0.8))
    y = int(height * d.size(0.62, 0.8))
    s = int(min(height, width) * d.size(0.12, 0.24))
    keel = int(s * 0.6)
    hull = [[cx - s, y], [cx + s, y], [cx + keel, y + s // 2], [cx - keel, y + s // 2]]
    main_sail = [[cx, y - 2], [cx, y - 2 * s], [cx + s, y - 2]]
    fore_sail = [[cx - 2, y - 2], [cx - 2, y - int(1.6 * s)], [cx - int(0.7 * s), y - 2]]
    _polygon(art, hull, tint(d.skin, (0.3, 0.8), (0.2, 0.6)))
    for sail in (main_sail, fore_sail):
        _polygon(art, sail, tint(d.detail, (0.0, 0.9), (0.8, 1)))
