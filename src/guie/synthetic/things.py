"""The things of the drawn world: buildings, packaged products and toys, each built from a few random numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from guie.synthetic.drawing import Colour, Part, mottled, patterned, plain, rotation, tint

SYLLABLES = ("BA", "BEL", "CO", "DU", "FIZ", "GA", "HOL", "KO", "LU", "MI", "NO", "OR", "PE", "RI", "RU", "SO", "TA", "VE", "XI", "ZA")
FLAVOURS = ("mint", "plum", "lemon", "cocoa", "chili", "apple", "berry", "malt", "honey", "peach", "curry", "anis")


@dataclass(frozen=True)
class Dice:
    """Where a thing's random numbers come from: near-twins share `form` and `skin` and differ by `detail` alone.

    Attributes:
        form: Kind, proportions and layout.
        skin: Colours, patterns and the brand.
        detail: One accent: a roof's colour, a flavour, a scarf.
    """

    form: np.random.Generator
    skin: np.random.Generator
    detail: np.random.Generator


def landmark(dice: Dice) -> list[Part]:
    """A building."""
    kinds: tuple[Callable[[Dice], list[Part]], ...] = (_tower, _church, _dome, _castle, _pagoda, _lighthouse, _arch)
    return kinds[int(dice.form.integers(len(kinds)))](dice)


def product(dice: Dice) -> list[Part]:
    """A packaged product: a carton, a can, a bottle, a jar or a bag."""
    kinds: tuple[Callable[[Dice], list[Part]], ...] = (_carton, _can, _bottle, _jar, _bag)
    return kinds[int(dice.form.integers(len(kinds)))](dice)


def toy(dice: Dice) -> list[Part]:
    """A toy: an animal, a vehicle, a robot, stacked rings or a doll."""
    kinds: tuple[Callable[[Dice], list[Part]], ...] = (_bear, _duck, _car, _robot, _rocket, _rings, _doll)
    return kinds[int(dice.form.integers(len(kinds)))](dice)


def _stone(rng: np.random.Generator) -> Colour:
    """The colour of stone, brick, plaster or sand."""
    return tint(rng, (0.05, 0.3), (0.6, 0.92)) if rng.random() < 0.6 else (int(rng.integers(150, 200)), int(rng.integers(80, 130)), int(rng.integers(60, 100)))


def _wall(dice: Dice, colour: Colour, rows: int, columns: int, height: int = 96, width: int = 96) -> np.ndarray:
    """A wall [2, h, w, 3] with courses of stone and a grid of windows; its sides have fewer windows."""
    glass, frame = tint(dice.skin, (0.1, 0.6), (0.12, 0.4)), tint(dice.skin, (0.0, 0.3), (0.7, 1.0))
    is_arched, courses = dice.form.random() < 0.5, int(dice.form.integers(0, 3)) * 6
    panels = []
    for n_columns in (columns, max(1, columns - 1)):
        panel = cv2.resize(mottled(dice.skin, colour, 48, 14), (width, height), interpolation=cv2.INTER_LINEAR)
        for k in range(1, courses):
            cv2.line(panel, (0, k * height // courses), (width, k * height // courses), tuple(int(c * 0.8) for c in colour), 1)
        w, h = int(width / n_columns * 0.24), int(height / rows * 0.3)
        for r in range(rows):
            for c in range(n_columns):
                x, y = int((c + 0.5) * width / n_columns), int((r + 0.55) * height / rows)
                for grow, paint in ((2, frame), (0, glass)):
                    cv2.rectangle(panel, (x - w - grow, y - h - grow), (x + w + grow, y + h + grow), paint, -1)
                    if is_arched:
                        cv2.ellipse(panel, (x, y - h), (w + grow, w + grow), 0, 180, 360, paint, -1, cv2.LINE_AA)
        panels.append(panel)
    return np.stack(panels)


def _block(x: float, y: float, z: float, w: float, h: float, d: float, skin: np.ndarray, taper: tuple[float, float] = (0.0, 0.0)) -> Part:
    """A block that stands on height y, by its half width and depth and whole height."""
    return Part("block", (x, y + h / 2, z), (w, h / 2, d), skin, taper)


def _tube(x: float, y: float, z: float, r: float, h: float, skin: np.ndarray, taper: float = 0.0, gloss: float = 0.0) -> Part:
    """A tube that stands on height y, by radius and height."""
    return Part("tube", (x, y + h / 2, z), (r, h / 2, r), skin, (taper, 0.0), gloss=gloss)


def _ball(x: float, y: float, z: float, r: float, skin: np.ndarray, gloss: float = 0.0, stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Part:
    """A ball around (x, y, z), by radius, stretched along each axis."""
    return Part("ball", (x, y, z), (r * stretch[0], r * stretch[1], r * stretch[2]), skin, gloss=gloss)


def _tower(d: Dice) -> list[Part]:
    stone, roof, n = _stone(d.skin), plain(tint(d.detail, (0.3, 0.8), (0.3, 0.75))), int(d.form.integers(2, 5))
    half, y, parts = float(d.form.uniform(0.38, 0.6)), 0.0, []
    columns = int(d.form.integers(2, 5))
    for k in range(n):
        height = float(d.form.uniform(0.5, 1.0))
        parts.append(_block(0, y, 0, half, height, half, _wall(d, stone, int(d.form.integers(1, 4)), columns)))
        parts.append(_block(0, y + height, 0, half * 1.1, 0.06, half * 1.1, plain(tuple(int(c * 0.75) for c in stone))))  # type: ignore[arg-type]
        y, half = y + height + 0.06, half * float(d.form.uniform(0.72, 0.95))
        if k == 0 and d.form.random() < 0.6:
            parts.append(Part("tube", (0, y + 0.3, half + 0.03), (0.2, 0.03, 0.2), plain((240, 236, 220)), turn=rotation(0, 90)))
    parts.append(_block(0, y, 0, half * 1.1, float(d.form.uniform(0.4, 1.1)), half * 1.1, roof, (1.0, 1.0)))
    return parts


def _church(d: Dice) -> list[Part]:
    stone, roof = _stone(d.skin), plain(tint(d.detail, (0.3, 0.8), (0.25, 0.65)))
    w, h, depth, side = (float(d.form.uniform(*r)) for r in ((0.5, 0.8), (0.7, 1.1), (0.8, 1.2), (-1, 1)))
    wall, spire = _wall(d, stone, 1, int(d.form.integers(2, 5))), float(d.form.uniform(0.6, 1.5))
    parts = [_block(0, 0, 0, w, h, depth, wall), _block(0, h, 0, w * 1.08, float(d.form.uniform(0.4, 0.8)), depth * 1.05, roof, (1.0, 0.0))]
    glass = patterned(d.skin, tint(d.skin), tint(d.skin))
    parts.append(Part("tube", (0, h * 1.12, depth * 1.02), (w * 0.3, 0.05, w * 0.3), glass, turn=rotation(0, 90)))
    for x in (-1, 1) if d.form.random() < 0.4 else (np.sign(side),):
        high, tower = float(h * 1.7), _wall(d, stone, 3, 1)
        parts.append(_block(x * (w + 0.2), 0, depth * 0.7, 0.24, high, 0.24, tower))
        parts.append(_block(x * (w + 0.2), high, depth * 0.7, 0.27, spire, 0.27, roof, (1.0, 1.0)))
    return parts


def _dome(d: Dice) -> list[Part]:
    stone, cap = _stone(d.skin), plain(tint(d.detail, (0.3, 0.8), (0.4, 0.9)))
    w, h, n = float(d.form.uniform(0.8, 1.2)), float(d.form.uniform(0.6, 0.9)), int(d.form.integers(4, 8))
    r, pale = float(w * d.form.uniform(0.45, 0.7)), plain(tint(d.skin, (0.0, 0.15), (0.85, 1.0)))
    parts = [_block(0, 0, 0, w, h, w * 0.8, _wall(d, stone, 2, n)), _block(0, h, 0, w * 1.05, 0.1, w * 0.85, pale)]
    parts += [_tube(x, 0, w * 0.95, 0.07, h, pale) for x in np.linspace(-w * 0.9, w * 0.9, n)]
    parts += [_block(0, h, w * 0.9, w * 0.6, float(d.form.uniform(0.2, 0.4)), 0.15, pale, (1.0, 0.0))]
    drum = float(d.form.uniform(0.15, 0.5))
    parts += [_tube(0, h + 0.1, 0, r, drum, _wall(d, stone, 1, 9)), _ball(0, h + 0.1 + drum, 0, r, cap, 0.25, (1.0, float(d.form.uniform(0.8, 1.3)), 1.0))]
    return [*parts, _tube(0, h + drum + r * 0.95, 0, r * 0.18, 0.35, pale, 0.6)]


def _castle(d: Dice) -> list[Part]:
    stone, roof = _stone(d.skin), plain(tint(d.detail, (0.4, 0.9), (0.3, 0.8)))
    w, h = float(d.form.uniform(0.8, 1.1)), float(d.form.uniform(0.7, 1.0))
    parts = [_block(0, 0, 0, w, h, w * 0.7, _wall(d, stone, 2, int(d.form.integers(3, 6))))]
    parts += [_block(x, h, w * 0.64, 0.07, 0.14, 0.06, plain(stone)) for x in np.linspace(-w + 0.1, w - 0.1, int(d.form.integers(4, 8)))]
    parts.append(_block(0, 0, w * 0.7, 0.2, h * 0.55, 0.03, plain(tint(d.skin, (0.4, 0.7), (0.2, 0.4)))))
    for x, z in ((-1, 0.7), (1, 0.7), (-0.2, -0.3), (0.6, -0.3))[: int(d.form.integers(2, 5))]:
        r, high = float(d.form.uniform(0.2, 0.32)), float(h * d.form.uniform(1.2, 2.0))
        parts += [_tube(x * w, 0, z * w, r, high, _wall(d, stone, 3, 5)), _tube(x * w, high, z * w, r * 1.2, float(d.form.uniform(0.4, 0.9)), roof, 1.0)]
    return parts


def _pagoda(d: Dice) -> list[Part]:
    wood, roof, n = tint(d.skin, (0.5, 0.9), (0.45, 0.85)), plain(tint(d.detail, (0.2, 0.7), (0.2, 0.6))), int(d.form.integers(2, 6))
    half, y, parts = float(d.form.uniform(0.55, 0.85)), 0.15, []
    parts.append(_block(0, 0, 0, half * 1.4, 0.15, half * 1.4, plain(_stone(d.skin))))
    shrink, storey = float(d.form.uniform(0.75, 0.9)), float(d.form.uniform(0.3, 0.5))
    for _ in range(n):
        parts.append(_block(0, y, 0, half, storey, half, _wall(d, wood, 1, int(d.form.integers(2, 5)))))
        parts.append(_block(0, y + storey, 0, half * 1.5, 0.25, half * 1.5, roof, (0.5, 0.5)))
        y, half = y + storey + 0.2, half * shrink
    return [*parts, _tube(0, y, 0, 0.07, 0.6, plain((200, 170, 70)), 0.8, 0.4)]


def _lighthouse(d: Dice) -> list[Part]:
    r, h = float(d.form.uniform(0.3, 0.5)), float(d.form.uniform(1.6, 2.6))
    bands, cap = np.empty((1, 64, 1, 3), np.uint8), plain(tint(d.detail, (0.5, 0.9), (0.4, 0.9)))
    bands[:] = tint(d.skin, (0.0, 0.1), (0.85, 1.0))
    bands[0, np.arange(64) * int(d.form.integers(3, 8)) // 64 % 2 == 1] = tint(d.skin)
    parts = [_tube(0, 0, 0, r * 1.6, 0.2, plain(_stone(d.skin))), _tube(0, 0.2, 0, r, h, bands, float(d.form.uniform(0.2, 0.5)))]
    parts += [_tube(0, h + 0.2, 0, r * 0.95, 0.08, plain((70, 70, 75))), _tube(0, h + 0.28, 0, r * 0.5, 0.35, plain((250, 235, 170)), gloss=0.4)]
    house, x = float(d.form.uniform(0.3, 0.5)), float(d.form.choice([-1, 1])) * 0.9
    parts += [
        _block(x, 0, 0.1, house, house, house * 0.8, _wall(d, _stone(d.skin), 1, 2)),
        _block(x, house, 0.1, house * 1.1, 0.35, house * 0.9, cap, (0.0, 1.0)),
    ]
    return [*parts, _ball(0, h + 0.63, 0, r * 0.6, cap, 0.2)]


def _arch(d: Dice) -> list[Part]:
    stone, n, top = _stone(d.skin), int(d.form.integers(2, 4)), float(d.form.uniform(0.4, 0.8))
    w, h, pier = float(d.form.uniform(0.8, 1.2)), float(d.form.uniform(0.9, 1.5)), float(d.form.uniform(0.14, 0.24))
    parts = [_block(x, 0, 0, pier, h, 0.35, _wall(d, stone, 2, 1)) for x in np.linspace(-w + pier, w - pier, n)]
    parts += [_block(0, h, 0, w * 1.05, 0.1, 0.42, plain(tint(d.skin, (0, 0.2), (0.8, 1)))), _block(0, h + 0.1, 0, w, top, 0.36, _wall(d, stone, 1, 7))]
    metal = plain(tint(d.detail, (0.4, 0.9), (0.35, 0.8)))
    parts += [_block(0, h + 0.1 + top, 0, w * 1.05, 0.08, 0.4, metal), _ball(0, h + top + 0.4, 0, 0.24, metal, 0.3, (float(d.form.uniform(0.6, 1.6)), 1, 1))]
    return parts


def label(dice: Dice, height: int, width: int) -> np.ndarray:
    """The printed front of a package, uint8 [h, w, 3]: ground, band, emblem, brand, and a flavour with its colour."""
    skin, form = dice.skin, dice.form
    pale = skin.random() < 0.35
    ground = tint(skin, (0.0, 0.2), (0.85, 1.0)) if pale else tint(skin)
    ink, band, accent = ((30, 30, 40) if pale else (250, 250, 245)), tint(skin), tint(dice.detail, (0.6, 1.0), (0.5, 1.0))
    art = np.empty((height, width, 3), np.uint8)
    art[:] = ground
    at, lean = float(form.uniform(0.5, 0.75)), int(form.integers(-20, 21))
    corners = [(0, int(at * height) + lean), (width, int(at * height) - lean), (width, int((at + 0.25) * height) - lean), (0, int((at + 0.25) * height) + lean)]
    cv2.fillPoly(art, [np.array(corners)], band, cv2.LINE_AA)
    _emblem(
        art, form, (int(width * form.uniform(0.35, 0.65)), int(height * form.uniform(0.36, 0.5))), int(min(height, width) * form.uniform(0.16, 0.26)), accent
    )
    _write(art, "".join(SYLLABLES[int(k)] for k in skin.integers(0, len(SYLLABLES), int(skin.integers(2, 4)))), int(height * form.uniform(0.2, 0.26)), ink, 0.8)
    _write(art, FLAVOURS[int(dice.detail.integers(len(FLAVOURS)))], int((at + 0.18) * height), ink, 0.6)
    cv2.rectangle(art, (0, int(0.93 * height)), (width, height), accent, -1)
    return art


def _write(art: np.ndarray, word: str, y: int, ink: Colour, share: float) -> None:
    """Centred text on the base line y that fills this share of the width, or a sixth of the height."""
    height, width = art.shape[:2]
    (wide, high), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_DUPLEX, 1.0, 2)
    scale = min(share * width / wide, height / 6 / high)
    cv2.putText(art, word, (int((width - scale * wide) / 2), y), cv2.FONT_HERSHEY_DUPLEX, scale, ink, max(1, round(2 * scale)), cv2.LINE_AA)


def _emblem(art: np.ndarray, rng: np.random.Generator, middle: tuple[int, int], radius: int, colour: Colour) -> None:
    """A disc, a ring, a star, a polygon or a leaf."""
    kind, n = int(rng.integers(5)), int(rng.integers(3, 8))
    if kind < 2:
        cv2.circle(art, middle, radius, colour, -1 if kind else max(2, radius // 3), cv2.LINE_AA)
    elif kind == 2:
        for tilt in (60, 120):
            cv2.ellipse(art, middle, (radius, radius // 3), tilt, 0, 360, colour, -1, cv2.LINE_AA)
    else:
        angle = np.arange(2 * n) * np.pi / n - np.pi / 2
        reach = radius * np.where(np.arange(2 * n) % 2, 0.45 if kind == 3 else 1.0, 1.0)
        cv2.fillPoly(art, [np.stack([middle[0] + reach * np.cos(angle), middle[1] + reach * np.sin(angle)], 1).astype(np.int32)], colour, cv2.LINE_AA)


def _around(front: np.ndarray) -> np.ndarray:
    """A tube's skin with the front in front and once more behind."""
    return np.roll(np.concatenate([front, front], axis=1), front.shape[1] // 2, axis=1)[None]


def _carton(d: Dice) -> list[Part]:
    w, h, depth = (float(d.form.uniform(*r)) for r in ((0.45, 0.8), (0.9, 2.2), (0.2, 0.45)))
    front = label(d, int(80 * h), int(160 * w))
    side = front.copy()
    side[:, :] = front[1, 1]
    for y in range(10, side.shape[0] - 24, 7):
        cv2.line(side, (8, y), (int(side.shape[1] * d.form.uniform(0.5, 0.9)), y), tuple(int(255 - c) for c in front[1, 1]), 1)
    return [_block(0, 0, 0, w, h, depth, np.stack([front, side, np.broadcast_to(front[1, 1], front.shape)]))]


def _can(d: Dice) -> list[Part]:
    r, h, metal = float(d.form.uniform(0.35, 0.6)), float(d.form.uniform(0.8, 1.6)), plain((190, 192, 198))
    front = label(d, int(80 * h), int(250 * r))
    return [_tube(0, 0.06, 0, r, h, _around(front), gloss=0.35), _tube(0, 0, 0, r * 0.97, 0.06, metal), _tube(0, h + 0.06, 0, r, 0.06, metal, 0.1, 0.3)]


def _bottle(d: Dice) -> list[Part]:
    r, h, neck = float(d.form.uniform(0.3, 0.42)), float(d.form.uniform(1.0, 1.5)), float(d.form.uniform(0.25, 0.5))
    glass, cap = plain(tint(d.skin, (0.2, 0.9), (0.25, 0.8))), plain(tint(d.detail))
    low, high = float(h * d.form.uniform(0.1, 0.25)), float(h * d.form.uniform(0.75, 0.95))
    front = label(d, int(90 * (high - low)), int(250 * r))
    parts = [
        _tube(0, 0, 0, r, h, glass, gloss=0.5),
        _tube(0, low, 0, r * 1.02, high - low, _around(front), gloss=0.2),
        _tube(0, h, 0, r, 0.35, glass, 0.6, 0.5),
    ]
    return [*parts, _tube(0, h + 0.35, 0, r * 0.4, neck, glass, gloss=0.5), _tube(0, h + 0.3 + neck, 0, r * 0.46, 0.16, cap, gloss=0.3)]


def _jar(d: Dice) -> list[Part]:
    r, h, food = float(d.form.uniform(0.5, 0.65)), float(d.form.uniform(0.8, 1.2)), plain(tint(d.skin))
    front, lid = label(d, int(64 * h), int(250 * r)), patterned(d.detail, tint(d.detail), tint(d.detail))
    return [_tube(0, 0, 0, r, h, food, gloss=0.5), _tube(0, h * 0.15, 0, r * 1.02, h * 0.65, _around(front)), _tube(0, h, 0, r * 0.9, 0.2, lid, gloss=0.3)]


def _bag(d: Dice) -> list[Part]:
    w, h = float(d.form.uniform(0.6, 0.8)), float(d.form.uniform(1.2, 1.9))
    front, clip = label(d, int(80 * h), int(150 * w)), plain(tint(d.detail))
    return [_block(0, 0, 0, w, h, 0.32, front[None], (0.08, 0.9)), _block(0, h, 0, w * 0.93, 0.1, 0.04, clip)]


def _bear(d: Dice) -> list[Part]:
    fur, belly, black = plain(tint(d.skin, (0.2, 0.8), (0.4, 0.95))), plain(tint(d.skin, (0.1, 0.4), (0.75, 1))), plain((25, 22, 25))
    fat, ear, head = (float(d.form.uniform(*r)) for r in ((0.5, 0.7), (0.12, 0.26), (0.38, 0.5)))
    y, long, ears = 0.75 + head, float(d.form.uniform(0.1, 0.16)), float(d.form.choice([1.0, 1.0, 2.6]))  # the last is a rabbit
    parts = [
        _ball(0, 0.6, 0, fat, fur),
        _ball(0, 0.58, fat * 0.35, fat * 0.75, belly),
        _ball(0, y, 0.05, head, fur),
        _ball(0, y - 0.1, head, head * 0.4, belly),
    ]
    for x in (-1, 1):
        parts += [_ball(x * head * 0.7, y + head * 0.8, 0, ear, fur, 0, (1, ears, 0.7)), _ball(x * head * 0.35, y + 0.1, head * 0.93, 0.06, black, 0.6)]
        parts += [_ball(x * fat * 0.95, 0.8, 0.2, long * 1.3, fur, 0, (1, 2, 1)), _ball(x * fat * 0.6, 0.14, 0.4, long * 1.4, fur, 0, (1, 1, 1.6))]
    scarf = patterned(d.detail, tint(d.detail), tint(d.detail))
    return [*parts, _ball(0, y - 0.05, head * 1.38, 0.07, black, 0.5), _tube(0, y - head - 0.02, 0.03, head * 0.85, 0.16, scarf)]


def _duck(d: Dice) -> list[Part]:
    body, beak, wing = plain(tint(d.skin)), plain(tint(d.skin, (0.7, 1), (0.8, 1))), patterned(d.detail, tint(d.detail), tint(d.detail))
    r, head = float(d.form.uniform(0.55, 0.75)), float(d.form.uniform(0.32, 0.45))
    y, long = float(r + d.form.uniform(0.45, 0.75)), float(d.form.uniform(1.2, 1.6))
    parts = [
        _ball(0, r, 0, r, body, 0.3, (long, 0.9, 0.95)),
        _ball(-r * long * 0.5, y, 0, head, body, 0.3),
        _tube(-r * long * 0.5, r, 0, head * 0.7, y - r, body),
    ]
    parts += [_ball(-r * long * 0.5 - head, y - 0.04, 0, 0.17, beak, 0.3, (1.3, 0.5, 1)), _ball(r * long * 0.9, r * 1.3, 0, 0.2, body, 0.3, (1.3, 0.7, 1))]
    for z in (-1, 1):
        parts += [
            _ball(r * 0.2, r * 1.05, z * r * 0.85, r * 0.55, wing, 0.2, (1.2, 0.7, 0.3)),
            _ball(-r * long * 0.5 - head * 0.6, y + 0.1, z * head * 0.7, 0.06, plain((20, 20, 25)), 0.6),
        ]
    return parts


def _car(d: Dice) -> list[Part]:
    paint, stripe, glass, rubber = plain(tint(d.skin)), plain(tint(d.detail)), plain((150, 200, 225)), plain((35, 35, 38))
    long, wide, h, cab = (float(d.form.uniform(*r)) for r in ((0.9, 1.3), (0.45, 0.6), (0.35, 0.6), (-0.35, 0.35)))
    r, n, roof = float(d.form.uniform(0.2, 0.32)), int(d.form.integers(2, 4)), float(d.form.uniform(0.1, 0.5))
    parts = [
        _block(0, r, 0, long, h, wide, paint),
        _block(cab, r + h, 0, long * 0.55, 0.4, wide * 0.9, glass, (roof, roof / 2)),
        _block(0, r + h * 0.4, 0, long * 1.01, h * 0.25, wide * 1.01, stripe),
    ]
    parts.append(_block(cab, r + h + 0.4, 0, long * 0.55 * (1 - roof * 0.9), 0.08, wide * 0.8, paint))
    for x in np.linspace(-long * 0.65, long * 0.65, n):
        for z in (-wide, wide):
            parts += [
                Part("tube", (x, r, z), (r, 0.1, r), rubber, turn=rotation(0, 90)),
                Part("tube", (x, r, z), (r * 0.5, 0.12, r * 0.5), stripe, turn=rotation(0, 90)),
            ]
    return [*parts, *(_ball(-long, r + h * 0.6, z * wide * 0.6, 0.1, plain((255, 240, 170)), 0.6) for z in (-1, 1))]


def _robot(d: Dice) -> list[Part]:
    metal, second, eye = plain(tint(d.skin, (0.1, 0.9))), plain(tint(d.skin)), plain(tint(d.detail, (0.7, 1), (0.8, 1)))
    w, h, head, arm = (float(d.form.uniform(*r)) for r in ((0.4, 0.6), (0.7, 1.0), (0.25, 0.45), (0.08, 0.15)))
    y, panel = 0.45 + h, patterned(d.detail, tint(d.detail), (230, 230, 235))
    parts = [_block(0, 0.45, 0, w, h, w * 0.7, metal), _block(0, 0.45 + h * 0.3, w * 0.7, w * 0.6, h * 0.45, 0.04, panel), _tube(0, y, 0, 0.12, 0.14, second)]
    parts += [
        _block(0, y + 0.12, 0, head, head * 1.4, head, metal) if d.form.random() < 0.5 else _ball(0, y + 0.1 + head, 0, head, metal, 0.4),
        _tube(0, y + head * 1.5, 0, 0.03, 0.45, second),
    ]
    for x in (-1, 1):
        parts += [_tube(x * w * 0.5, 0, 0, arm * 1.4, 0.45, second, gloss=0.3), _ball(x * head * 0.45, y + head, head * 0.95, 0.1, eye, 0.6)]
        parts += [_tube(x * (w + arm), y - 0.75, 0, arm, 0.7, second, gloss=0.3), _ball(x * (w + arm), y - 0.8, 0, arm * 1.4, metal, 0.4)]
    return parts


def _rocket(d: Dice) -> list[Part]:
    hull, fin, r, h = (
        patterned(d.skin, tint(d.skin), tint(d.skin, (0, 0.3), (0.8, 1))),
        plain(tint(d.detail)),
        float(d.form.uniform(0.3, 0.5)),
        float(d.form.uniform(1.1, 1.7)),
    )
    parts = [
        _tube(0, 0.3, 0, r, h, hull, gloss=0.3),
        _tube(0, 0.3 + h, 0, r, float(d.form.uniform(0.5, 0.9)), fin, 1.0, 0.3),
        _tube(0, 0.08, 0, r * 0.7, 0.25, plain((80, 80, 85)), -0.3),
    ]
    n = int(d.form.integers(3, 5))
    for k in range(n):
        turn = rotation(360 * k / n)
        middle = turn @ np.array([0.0, 0.45, r * 1.3])
        parts.append(Part("block", (float(middle[0]), 0.4, float(middle[2])), (0.05, 0.4, r * 0.6), fin, (0.0, 0.8), turn))
    return [
        *parts,
        *(_ball(0, 0.3 + h * t, r * 0.95, r * 0.3, plain((140, 205, 235)), 0.6, (1, 1, 0.4)) for t in np.linspace(0.4, 0.8, int(d.form.integers(1, 3)))),
    ]


def _rings(d: Dice) -> list[Part]:
    n, r, y, parts = int(d.form.integers(4, 7)), float(d.form.uniform(0.7, 0.95)), 0.12, []
    step, is_round, changed = float(r * d.form.uniform(0.08, 0.14)), d.form.random() < 0.5, int(d.detail.integers(n))
    skins = [plain(tint(d.skin)) for _ in range(n)]
    skins[changed] = plain(tint(d.detail))
    for k, skin in enumerate(skins):
        ring = (
            _ball(0, y + 0.16, 0, r - k * step, skin, 0.35, (1, 0.19 / (r - k * step), 1)) if is_round else _tube(0, y, 0, r - k * step, 0.3, skin, gloss=0.2)
        )
        parts.append(ring)
        y += 0.31
    return [_block(0, 0, 0, 0.9, 0.12, 0.9, plain(tint(d.skin, (0.3, 0.5), (0.7, 0.85)))), *parts, _ball(0, y + 0.15, 0, 0.24, plain(tint(d.skin)), 0.4)]


def _doll(d: Dice) -> list[Part]:
    dress, hair, face = patterned(d.skin, tint(d.skin), tint(d.skin)), plain(tint(d.skin, (0.2, 0.9), (0.2, 0.8))), plain((238, 200, 170))
    r, h, head = (float(d.form.uniform(*span)) for span in ((0.5, 0.7), (0.9, 1.3), (0.36, 0.46)))
    y, hat = h + head * 0.8, plain(tint(d.detail))
    parts = [_tube(0, 0, 0, r, h, dress, float(d.form.uniform(0.4, 0.75))), _ball(0, y, 0, head, face), _ball(0, y + 0.05, -head * 0.15, head * 1.03, hair)]
    for x in (-1, 1):
        parts += [_ball(x * head * 0.35, y, head * 0.92, 0.05, plain((30, 40, 60)), 0.6), _ball(x * r * 0.75, h * 0.7, 0.1, 0.12, face, 0, (1, 2, 1))]
    if d.form.random() < 0.6:
        parts += [
            _tube(0, y + head * 0.6, 0, head * 1.4, 0.06, hat),
            _tube(0, y + head * 0.6, 0, head * 0.85, head * 0.9, hat, float(d.form.uniform(0.0, 0.6))),
        ]
    return [*parts, _ball(0, h * 0.55, r * 0.7, 0.12, hat, 0.3)]
