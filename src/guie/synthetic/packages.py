"""The packaged products of the drawn world: cartons, cans, bottles, jars and bags with printed labels."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from guie.synthetic.drawing import Part
from guie.synthetic.skins import Colour, patterned, plain, tint
from guie.synthetic.solids import Dice, block, tube

SYLLABLES = (
    *("BA", "BEL", "CO", "DU", "FIZ", "GA", "HOL", "KO", "LU", "MI"),
    *("NO", "OR", "PE", "RI", "RU", "SO", "TA", "VE", "XI", "ZA"),
)
FLAVOURS = ("mint", "plum", "lemon", "cocoa", "chili", "apple", "berry", "malt", "honey", "peach", "curry", "anis")


def product(dice: Dice) -> list[Part]:
    """A packaged product: a carton, a can, a bottle, a jar or a bag."""
    kinds: tuple[Callable[[Dice], list[Part]], ...] = (_carton, _can, _bottle, _jar, _bag)
    return kinds[dice.count(0, len(kinds))](dice)


def label(dice: Dice, height: int, width: int) -> np.ndarray:
    """The printed front of a package, uint8 [h, w, 3]: ground, band, emblem, brand, and a flavour with its colour."""
    form = dice.form
    is_pale = dice.skin.random() < 0.35
    ground = tint(dice.skin, (0.0, 0.2), (0.85, 1.0)) if is_pale else tint(dice.skin)
    ink = (30, 30, 40) if is_pale else (250, 250, 245)
    band = tint(dice.skin)
    accent = tint(dice.detail, (0.6, 1.0), (0.5, 1.0))
    art = np.empty((height, width, 3), np.uint8)
    art[:] = ground
    at = dice.size(0.5, 0.75)
    _put_band(art, at, int(form.integers(-20, 21)), band)
    middle = (int(width * form.uniform(0.35, 0.65)), int(height * form.uniform(0.36, 0.5)))
    _put_emblem(art, form, middle, int(min(height, width) * form.uniform(0.16, 0.26)), accent)
    _write(art, _brand(dice.skin), int(height * form.uniform(0.2, 0.26)), ink, 0.8)
    _write(art, FLAVOURS[int(dice.detail.integers(len(FLAVOURS)))], int((at + 0.18) * height), ink, 0.6)
    cv2.rectangle(art, (0, int(0.93 * height)), (width, height), accent, -1)
    return art


def _put_band(art: np.ndarray, at: float, lean: int, colour: Colour) -> None:
    """Draws a slanted band, a quarter of a label high, from height `at` (0..1); its left end is `lean` pixels lower."""
    height, width = art.shape[:2]
    top = int(at * height)
    low = int((at + 0.25) * height)
    corners = [(0, top + lean), (width, top - lean), (width, low - lean), (0, low + lean)]
    cv2.fillPoly(art, [np.array(corners)], colour, cv2.LINE_AA)


def _brand(rng: np.random.Generator) -> str:
    """A name of two or three syllables."""
    n = int(rng.integers(2, 4))
    return "".join(SYLLABLES[int(k)] for k in rng.integers(0, len(SYLLABLES), n))


def _write(art: np.ndarray, word: str, y: int, ink: Colour, share: float) -> None:
    """Writes centred text on the base line y. It fills this share of the width, but at most a sixth of the height."""
    height, width = art.shape[:2]
    (wide, high), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_DUPLEX, 1.0, 2)
    scale = min(share * width / wide, height / 6 / high)
    left = int((width - scale * wide) / 2)
    thickness = max(1, round(2 * scale))
    cv2.putText(art, word, (left, y), cv2.FONT_HERSHEY_DUPLEX, scale, ink, thickness, cv2.LINE_AA)


def _put_emblem(
    art: np.ndarray,
    rng: np.random.Generator,
    middle: tuple[int, int],
    radius: int,
    colour: Colour,
) -> None:
    """Draws a disc, a ring, a star, a polygon or a leaf."""
    kind = int(rng.integers(5))
    n = int(rng.integers(3, 8))
    if kind < 2:
        cv2.circle(art, middle, radius, colour, -1 if kind else max(2, radius // 3), cv2.LINE_AA)
    elif kind == 2:
        for tilt in (60, 120):
            cv2.ellipse(art, middle, (radius, radius // 3), tilt, 0, 360, colour, -1, cv2.LINE_AA)
    else:
        angle = np.arange(2 * n) * np.pi / n - np.pi / 2
        reach = radius * np.where(np.arange(2 * n) % 2, 0.45 if kind == 3 else 1.0, 1.0)
        outline = np.stack([middle[0] + reach * np.cos(angle), middle[1] + reach * np.sin(angle)], 1)
        cv2.fillPoly(art, [outline.astype(np.int32)], colour, cv2.LINE_AA)


def _around(front: np.ndarray) -> np.ndarray:
    """A tube's skin that shows `front` in front and once more behind."""
    return np.roll(np.concatenate([front, front], axis=1), front.shape[1] // 2, axis=1)[None]


def _carton(d: Dice) -> list[Part]:
    """A box with a label in front and lines of text on its sides."""
    w = d.size(0.45, 0.8)
    h = d.size(0.9, 2.2)
    depth = d.size(0.2, 0.45)
    front = label(d, int(80 * h), int(160 * w))
    ground = front[1, 1]
    side = front.copy()
    side[:, :] = ground
    ink = tuple(int(255 - c) for c in ground)
    for y in range(10, side.shape[0] - 24, 7):
        cv2.line(side, (8, y), (int(side.shape[1] * d.form.uniform(0.5, 0.9)), y), ink, 1)
    return [block(0, 0, 0, w, h, depth, np.stack([front, side, np.broadcast_to(ground, front.shape)]))]


def _can(d: Dice) -> list[Part]:
    """A can of metal."""
    r = d.size(0.35, 0.6)
    h = d.size(0.8, 1.6)
    metal = plain((190, 192, 198))
    side = tube(0, 0.06, 0, r, h, _around(label(d, int(80 * h), int(250 * r))), gloss=0.35)
    return [side, tube(0, 0, 0, r * 0.97, 0.06, metal), tube(0, h + 0.06, 0, r, 0.06, metal, 0.1, 0.3)]


def _bottle(d: Dice) -> list[Part]:
    """A bottle with a label around its middle."""
    r = d.size(0.3, 0.42)
    h = d.size(1.0, 1.5)
    neck = d.size(0.25, 0.5)
    glass = plain(tint(d.skin, (0.2, 0.9), (0.25, 0.8)))
    cap = plain(tint(d.detail))
    low = float(h * d.form.uniform(0.1, 0.25))
    high = float(h * d.form.uniform(0.75, 0.95))
    front = label(d, int(90 * (high - low)), int(250 * r))
    return [
        tube(0, 0, 0, r, h, glass, gloss=0.5),
        tube(0, low, 0, r * 1.02, high - low, _around(front), gloss=0.2),
        tube(0, h, 0, r, 0.35, glass, 0.6, 0.5),
        tube(0, h + 0.35, 0, r * 0.4, neck, glass, gloss=0.5),
        tube(0, h + 0.3 + neck, 0, r * 0.46, 0.16, cap, gloss=0.3),
    ]


def _jar(d: Dice) -> list[Part]:
    """A glass jar with a patterned lid; the food is seen above and below the label."""
    r = d.size(0.5, 0.65)
    h = d.size(0.8, 1.2)
    food = plain(tint(d.skin))
    front = _around(label(d, int(64 * h), int(250 * r)))
    lid = patterned(d.detail, tint(d.detail), tint(d.detail))
    return [
        tube(0, 0, 0, r, h, food, gloss=0.5),
        tube(0, h * 0.15, 0, r * 1.02, h * 0.65, front),
        tube(0, h, 0, r * 0.9, 0.2, lid, gloss=0.3),
    ]


def _bag(d: Dice) -> list[Part]:
    """A bag that narrows towards the clip at its top."""
    w = d.size(0.6, 0.8)
    h = d.size(1.2, 1.9)
    front = label(d, int(80 * h), int(150 * w))
    clip = plain(tint(d.detail))
    return [block(0, 0, 0, w, h, 0.32, front[None], (0.08, 0.9)), block(0, h, 0, w * 0.93, 0.1, 0.04, clip)]
