"""The artworks of the drawn world: framed pictures of five kinds, each a composition, a palette and one detail."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from guie.synthetic.drawing import Colour, Part, plain, tint
from guie.synthetic.things import Dice

LONG_PX = 144  # longer side of a painted canvas


def artwork(dice: Dice) -> list[Part]:
    """A framed picture that stands on its lower edge."""
    aspect = float(dice.form.choice([0.7, 0.8, 1.0, 1.25, 1.4]))
    width, height = (1.0, 1.0 / aspect) if aspect >= 1 else (aspect, 1.0)  # half sides
    kinds: tuple[Callable[[Dice, int, int], np.ndarray], ...] = (_landscape, _portrait, _still_life, _blocks, _discs, _seascape)
    picture = kinds[int(dice.form.integers(len(kinds)))](dice, round(LONG_PX * height), round(LONG_PX * width))
    picture = _brushed(picture, dice.form)
    border, mat = float(dice.form.uniform(0.06, 0.16)), float(dice.form.choice([0.0, 0.0, 0.1]))
    wood = tint(dice.skin, (0.2, 0.7), (0.2, 0.8))
    outer_w, outer_h = width + border + mat, height + border + mat
    parts = [Part("block", (0, outer_h, 0), (outer_w, outer_h, 0.06), plain(wood), gloss=0.1)]
    if mat:
        parts.append(Part("block", (0, outer_h, 0.0), (width + mat, height + mat, 0.07), plain((238, 234, 224))))
    return [*parts, Part("block", (0, outer_h, 0.0), (width, height, 0.08), picture[None])]


def _brushed(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same picture with the grain of brush strokes along one direction."""
    height, width = picture.shape[:2]
    length = int(rng.integers(3, 12))
    strokes = cv2.blur(rng.uniform(-1, 1, (height, width)).astype(np.float32), (length, 1) if rng.random() < 0.5 else (1, length))
    return np.clip(picture + (strokes * rng.uniform(10, 50))[..., None], 0, 255).astype(np.uint8)


def _canvas(height: int, width: int, top: Colour, bottom: Colour) -> np.ndarray:
    """uint8 [height, width, 3] that goes from one colour at the top to another at the bottom."""
    slope = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    column = np.array(top, np.float32) * (1 - slope) + np.array(bottom, np.float32) * slope
    return np.repeat(column.astype(np.uint8), width, axis=1)


def _sun(art: np.ndarray, d: Dice, low: float) -> None:
    height, width = art.shape[:2]
    middle = (int(width * d.detail.uniform(0.12, 0.88)), int(height * d.detail.uniform(0.1, low)))
    cv2.circle(art, middle, int(min(height, width) * d.detail.uniform(0.06, 0.14)), tint(d.detail, (0.3, 1.0), (0.8, 1.0)), -1, cv2.LINE_AA)


def _landscape(d: Dice, height: int, width: int) -> np.ndarray:
    """Hills before a sky with a sun, trees on the nearest."""
    art = _canvas(height, width, tint(d.skin, (0.2, 0.9)), tint(d.skin, (0.05, 0.5), (0.7, 1.0)))
    _sun(art, d, 0.4)
    x = np.linspace(0, width, 24)
    for layer, base in enumerate(np.sort(d.form.uniform(0.35, 0.8, int(d.form.integers(2, 5))))):
        ridge = base * height + height * d.form.uniform(0.03, 0.14) * np.sin(x / width * d.form.uniform(3, 14) + d.form.uniform(0, 6))
        outline = np.concatenate([np.stack([x, ridge], 1), [[width, height], [0, height]]]).astype(np.int32)
        cv2.fillPoly(art, [outline], tint(d.skin, (0.3, 0.9), (0.25 + 0.1 * layer, 0.9)), cv2.LINE_AA)
    leaf, trunk = tint(d.skin, (0.4, 0.9), (0.2, 0.6)), tint(d.skin, (0.3, 0.6), (0.15, 0.4))
    for _ in range(int(d.form.integers(1, 6))):
        at, foot, size = int(d.form.uniform(0.05, 0.95) * width), int(d.form.uniform(0.72, 0.97) * height), int(d.form.uniform(0.06, 0.16) * height)
        cv2.line(art, (at, foot), (at, foot - size), trunk, max(1, size // 6), cv2.LINE_AA)
        cv2.ellipse(art, (at, foot - size), (int(size * 0.6), int(size * 0.9)), 0, 0, 360, leaf, -1, cv2.LINE_AA)
    return art


def _portrait(d: Dice, height: int, width: int) -> np.ndarray:
    """Head and shoulders; the detail is the garment's colour and a hat or a flower."""
    art = _canvas(height, width, tint(d.skin, (0.2, 0.8), (0.2, 0.7)), tint(d.skin, (0.2, 0.8), (0.1, 0.6)))
    light = float(d.form.uniform(0.5, 1.0))
    face, hair = (int(238 * light), int(196 * light), int(165 * light)), tint(d.skin, (0.2, 0.9), (0.1, 0.7))
    cx, cy, r = int(width * d.form.uniform(0.4, 0.6)), int(height * d.form.uniform(0.36, 0.44)), int(min(height, width) * d.form.uniform(0.16, 0.22))
    long = int(r * d.form.uniform(0.9, 2.0))
    cv2.ellipse(art, (cx, cy + long // 3), (int(r * 1.25), r + long // 2), 0, 0, 360, hair, -1, cv2.LINE_AA)
    cv2.ellipse(art, (cx, height), (int(width * d.form.uniform(0.3, 0.45)), int(height * 0.36)), 0, 0, 360, tint(d.detail), -1, cv2.LINE_AA)
    cv2.rectangle(art, (cx - r // 3, cy), (cx + r // 3, cy + int(r * 1.6)), tuple(int(c * 0.85) for c in face), -1)
    cv2.ellipse(art, (cx, cy), (int(r * 0.85), int(r * 1.1)), d.form.uniform(-12, 12), 0, 360, face, -1, cv2.LINE_AA)
    for side in (-1, 1):
        cv2.circle(art, (cx + side * r // 3, cy - r // 8), max(1, r // 9), (40, 34, 40), -1, cv2.LINE_AA)
    cv2.line(art, (cx - r // 4, cy + r // 2), (cx + r // 4, cy + r // 2), (160, 70, 70), max(1, r // 9), cv2.LINE_AA)
    if d.form.random() < 0.5:
        cv2.ellipse(art, (cx, cy - int(r * 0.9)), (int(r * 1.3), int(r * 0.45)), 0, 0, 360, tint(d.detail), -1, cv2.LINE_AA)
    else:
        cv2.circle(art, (cx + int(d.detail.choice([-1, 1])) * r, cy - r // 2), max(2, r // 4), tint(d.detail, (0.7, 1), (0.7, 1)), -1, cv2.LINE_AA)
    return art


def _still_life(d: Dice, height: int, width: int) -> np.ndarray:
    """A vase and fruits on a table; one fruit is the detail."""
    art = _canvas(height, width, tint(d.skin, (0.1, 0.7), (0.2, 0.8)), tint(d.skin, (0.1, 0.7), (0.2, 0.7)))
    table = int(height * d.form.uniform(0.6, 0.75))
    cv2.rectangle(art, (0, table), (width, height), tint(d.skin, (0.2, 0.7), (0.3, 0.9)), -1)
    vase, cx, w, h = tint(d.skin), int(width * d.form.uniform(0.25, 0.75)), int(width * d.form.uniform(0.07, 0.13)), int(height * d.form.uniform(0.2, 0.4))
    foot = table + int(height * 0.1)
    cv2.ellipse(art, (cx, foot - h // 2), (w, h // 2), 0, 0, 360, vase, -1, cv2.LINE_AA)
    cv2.rectangle(art, (cx - w // 2, foot - h - h // 5), (cx + w // 2, foot - h // 2), vase, -1)
    for _ in range(int(d.form.integers(2, 7))):
        top = (cx + int(d.form.uniform(-2.2, 2.2) * w), foot - h - int(height * d.form.uniform(0.08, 0.26)))
        cv2.line(art, (cx, foot - h), top, (52, 96, 50), 2, cv2.LINE_AA)
        cv2.circle(art, top, max(3, int(w * d.form.uniform(0.3, 0.6))), tint(d.skin, (0.5, 1), (0.6, 1)), -1, cv2.LINE_AA)
    n = int(d.form.integers(3, 7))
    for k in range(n):
        rng = d.detail if k == n - 1 else d.skin
        at = (int(width * d.form.uniform(0.1, 0.9)), table + int(height * d.form.uniform(0.06, 0.18)))
        cv2.circle(art, at, int(min(height, width) * d.form.uniform(0.05, 0.09)), tint(rng, (0.6, 1), (0.5, 1)), -1, cv2.LINE_AA)
    return art


def _blocks(d: Dice, height: int, width: int) -> np.ndarray:
    """A grid of lines with coloured fields; two fields are the detail."""
    art = np.full((height, width, 3), (240, 236, 226), np.uint8)
    lines = [np.sort(np.concatenate([[0.0, 1.0], d.form.uniform(0.1, 0.9, int(d.form.integers(2, 5)))])) for _ in range(2)]
    rows, columns = ((line * side).astype(int) for line, side in zip(lines, (height, width), strict=True))
    fields = [(r, c) for r in range(len(rows) - 1) for c in range(len(columns) - 1)]
    chosen = d.form.permutation(len(fields))
    for k, i in enumerate(chosen[: max(3, len(fields) // 2)]):
        r, c = fields[int(i)]
        colour = tint(d.detail if k < 2 else d.skin, (0.6, 1), (0.3, 1))
        cv2.rectangle(art, (int(columns[c]), int(rows[r])), (int(columns[c + 1]), int(rows[r + 1])), colour, -1)
    ink, thick = tint(d.skin, (0, 0.3), (0.05, 0.25)), int(d.form.integers(2, 6))
    for y in rows:
        cv2.line(art, (0, int(y)), (width, int(y)), ink, thick)
    for x in columns:
        cv2.line(art, (int(x), 0), (int(x), height), ink, thick)
    return art


def _discs(d: Dice, height: int, width: int) -> np.ndarray:
    """Discs, rings and bars in the air; the largest disc is the detail."""
    art = _canvas(height, width, tint(d.skin, (0.0, 0.3), (0.8, 1.0)), tint(d.skin, (0.0, 0.4), (0.7, 1.0)))
    side = min(height, width)
    for _ in range(int(d.form.integers(3, 8))):
        ends = (d.form.uniform(0, 1, (2, 2)) * (width, height)).astype(int)
        cv2.line(art, ends[0].tolist(), ends[1].tolist(), tint(d.skin, (0.2, 1), (0.1, 0.7)), int(d.form.integers(1, 6)), cv2.LINE_AA)
    for k in range(int(d.form.integers(4, 10))):
        middle, r = (d.form.uniform(0.1, 0.9, 2) * (width, height)).astype(int).tolist(), int(side * d.form.uniform(0.04, 0.16))
        cv2.circle(art, middle, r, tint(d.skin), -1 if k % 3 else max(2, r // 3), cv2.LINE_AA)
    middle = (d.form.uniform(0.3, 0.7, 2) * (width, height)).astype(int).tolist()
    for share in (0.3, 0.2, 0.1):
        cv2.circle(art, middle, int(side * share), tint(d.detail), -1, cv2.LINE_AA)
    return art


def _seascape(d: Dice, height: int, width: int) -> np.ndarray:
    """A boat on waves; its sail, its place and the sun are the detail."""
    art = _canvas(height, width, tint(d.skin, (0.3, 0.8)), tint(d.skin, (0.1, 0.6), (0.7, 1.0)))
    _sun(art, d, 0.35)
    sea, horizon, n = np.array(tint(d.skin, (0.4, 0.9), (0.3, 0.8)), float), d.form.uniform(0.45, 0.6), int(d.form.integers(4, 9))
    x = np.linspace(0, width, 40)
    for k in range(n):
        wave = height * (horizon + (1 - horizon) * k / n + 0.02 * np.sin(x / width * d.form.uniform(12, 40) + d.form.uniform(0, 6)) * (k > 0))
        colour = tuple(int(c) for c in np.clip(sea * (0.8 + 0.5 * k / n), 0, 255))
        cv2.fillPoly(art, [np.concatenate([np.stack([x, wave], 1), [[width, height], [0, height]]]).astype(np.int32)], colour, cv2.LINE_AA)
    cx, y, s = int(width * d.detail.uniform(0.2, 0.8)), int(height * d.form.uniform(0.62, 0.8)), int(min(height, width) * d.form.uniform(0.12, 0.24))
    hull = [[cx - s, y], [cx + s, y], [cx + int(s * 0.6), y + s // 2], [cx - int(s * 0.6), y + s // 2]]
    cv2.fillPoly(art, [np.array(hull)], tint(d.skin, (0.3, 0.8), (0.2, 0.6)), cv2.LINE_AA)
    cv2.fillPoly(art, [np.array([[cx, y - 2], [cx, y - 2 * s], [cx + s, y - 2]])], tint(d.detail, (0.0, 0.9), (0.8, 1)), cv2.LINE_AA)
    cv2.fillPoly(art, [np.array([[cx - 2, y - 2], [cx - 2, y - int(1.6 * s)], [cx - int(0.7 * s), y - 2]])], tint(d.detail, (0.0, 0.9), (0.8, 1)), cv2.LINE_AA)
    return art
