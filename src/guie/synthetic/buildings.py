"""The buildings of the drawn world: seven kinds, each built from a few random numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import cv2
import numpy as np

from guie.synthetic.drawing import Part, rotation
from guie.synthetic.skins import Colour, darker, mottled, patterned, plain, tint
from guie.synthetic.solids import Dice, ball, block, tube

WALL_PX = 96  # side of a wall's texture


def landmark(dice: Dice) -> list[Part]:
    """A building."""
    kinds: tuple[Callable[[Dice], list[Part]], ...] = (_tower, _church, _dome, _castle, _pagoda, _lighthouse, _arch)
    return kinds[dice.count(0, len(kinds))](dice)


def _stone(rng: np.random.Generator) -> Colour:
    """The colour of stone, plaster, sand or brick."""
    if rng.random() < 0.6:
        return tint(rng, (0.05, 0.3), (0.6, 0.92))
    return int(rng.integers(150, 200)), int(rng.integers(80, 130)), int(rng.integers(60, 100))


def _wall(dice: Dice, colour: Colour, rows: int, columns: int) -> np.ndarray:
    """A wall with courses of stone and a grid of windows; the side panel has one column fewer.

    Returns:
        uint8 [2, WALL_PX, WALL_PX, 3]: front and side.
    """
    glass = tint(dice.skin, (0.1, 0.6), (0.12, 0.4))
    frame = tint(dice.skin, (0.0, 0.3), (0.7, 1.0))
    is_arched = bool(dice.form.random() < 0.5)
    n_courses = dice.count(0, 3) * 6
    panels = []
    for n_columns in (columns, max(1, columns - 1)):
        panel = _masonry(dice.skin, colour, n_courses)
        _put_windows(panel, rows, n_columns, glass, frame, is_arched)
        panels.append(panel)
    return np.stack(panels)


def _masonry(rng: np.random.Generator, colour: Colour, n_courses: int) -> np.ndarray:
    """Mottled stone with darker lines between its courses, uint8 [WALL_PX, WALL_PX, 3]."""
    panel = cv2.resize(mottled(rng, colour, 48, 14), (WALL_PX, WALL_PX), interpolation=cv2.INTER_LINEAR)
    for k in range(1, n_courses):
        y = k * WALL_PX // n_courses
        cv2.line(panel, (0, y), (WALL_PX, y), darker(colour, 0.8), 1)
    return panel


def _put_windows(panel: np.ndarray, rows: int, columns: int, glass: Colour, frame: Colour, is_arched: bool) -> None:
    """Draws a grid of framed windows onto a wall's panel."""
    half = (int(WALL_PX / columns * 0.24), int(WALL_PX / rows * 0.3))
    for row, column in itertools.product(range(rows), range(columns)):
        middle = (int((column + 0.5) * WALL_PX / columns), int((row + 0.55) * WALL_PX / rows))
        _put_pane(panel, middle, half, 2, frame, is_arched)
        _put_pane(panel, middle, half, 0, glass, is_arched)


def _put_pane(
    panel: np.ndarray,
    middle: tuple[int, int],
    half: tuple[int, int],
    grow: int,
    colour: Colour,
    is_arched: bool,
) -> None:
    """Draws one pane, `grow` pixels larger than `half` on each side, with a round top where it is arched."""
    x, y = middle
    w, h = half
    cv2.rectangle(panel, (x - w - grow, y - h - grow), (x + w + grow, y + h + grow), colour, -1)
    if is_arched:
        cv2.ellipse(panel, (x, y - h), (w + grow, w + grow), 0, 180, 360, colour, -1, cv2.LINE_AA)


def _tower(d: Dice) -> list[Part]:
    """Storeys that become narrower, sometimes with a clock, under a pointed roof."""
    stone = _stone(d.skin)
    roof = plain(tint(d.detail, (0.3, 0.8), (0.3, 0.75)))
    n = d.count(2, 5)
    half = d.size(0.38, 0.6)
    columns = d.count(2, 5)
    ledge = plain(darker(stone, 0.75))
    y = 0.0
    parts = []
    for k in range(n):
        height = d.size(0.5, 1.0)
        parts.append(block(0, y, 0, half, height, half, _wall(d, stone, d.count(1, 4), columns)))
        parts.append(block(0, y + height, 0, half * 1.1, 0.06, half * 1.1, ledge))
        y = y + height + 0.06
        half *= d.size(0.72, 0.95)
        if k == 0 and d.form.random() < 0.6:
            clock = plain((240, 236, 220))
            parts.append(Part("tube", (0, y + 0.3, half + 0.03), (0.2, 0.03, 0.2), clock, turn=rotation(0, 90)))
    parts.append(block(0, y, 0, half * 1.1, d.size(0.4, 1.1), half * 1.1, roof, (1.0, 1.0)))
    return parts


def _church(d: Dice) -> list[Part]:
    """A nave with a round window and one or two towers."""
    stone = _stone(d.skin)
    roof = plain(tint(d.detail, (0.3, 0.8), (0.25, 0.65)))
    w = d.size(0.5, 0.8)
    h = d.size(0.7, 1.1)
    depth = d.size(0.8, 1.2)
    side = float(np.sign(d.form.uniform(-1, 1)))
    wall = _wall(d, stone, 1, d.count(2, 5))
    spire = d.size(0.6, 1.5)
    ridge = d.size(0.4, 0.8)
    nave = [block(0, 0, 0, w, h, depth, wall), block(0, h, 0, w * 1.08, ridge, depth * 1.05, roof, (1.0, 0.0))]
    glass = patterned(d.skin, tint(d.skin), tint(d.skin))
    window = Part("tube", (0, h * 1.12, depth * 1.02), (w * 0.3, 0.05, w * 0.3), glass, turn=rotation(0, 90))
    sides = (-1, 1) if d.form.random() < 0.4 else (side,)
    towers = [part for x in sides for part in _church_tower(d, stone, roof, x * (w + 0.2), depth * 0.7, h * 1.7, spire)]
    return [*nave, window, *towers]


def _church_tower(
    d: Dice,
    stone: Colour,
    roof: np.ndarray,
    x: float,
    z: float,
    high: float,
    spire: float,
) -> list[Part]:
    """A square tower at (x, z) that is `high`, and its spire."""
    wall = _wall(d, stone, 3, 1)
    return [block(x, 0, z, 0.24, high, 0.24, wall), block(x, high, z, 0.27, spire, 0.27, roof, (1.0, 1.0))]


def _dome(d: Dice) -> list[Part]:
    """A hall behind a portico, with a dome above."""
    stone = _stone(d.skin)
    cap = plain(tint(d.detail, (0.3, 0.8), (0.4, 0.9)))
    w = d.size(0.8, 1.2)
    h = d.size(0.6, 0.9)
    n = d.count(4, 8)
    r = float(w * d.form.uniform(0.45, 0.7))
    pale = plain(tint(d.skin, (0.0, 0.15), (0.85, 1.0)))
    hall = [block(0, 0, 0, w, h, w * 0.8, _wall(d, stone, 2, n)), block(0, h, 0, w * 1.05, 0.1, w * 0.85, pale)]
    return [*hall, *_portico(d, w, h, n, pale), *_cupola(d, stone, cap, pale, r, h)]


def _portico(d: Dice, w: float, h: float, n: int, pale: np.ndarray) -> list[Part]:
    """A row of `n` columns before a hall of half width w and height h, and the gable on them."""
    columns = [tube(x, 0, w * 0.95, 0.07, h, pale) for x in np.linspace(-w * 0.9, w * 0.9, n)]
    gable = d.size(0.2, 0.4)
    return [*columns, block(0, h, w * 0.9, w * 0.6, gable, 0.15, pale, (1.0, 0.0))]


def _cupola(d: Dice, stone: Colour, cap: np.ndarray, pale: np.ndarray, r: float, h: float) -> list[Part]:
    """A drum of radius r on a hall of height h, the dome on it, and a lantern."""
    high = d.size(0.15, 0.5)
    drum = tube(0, h + 0.1, 0, r, high, _wall(d, stone, 1, 9))
    dome = ball(0, h + 0.1 + high, 0, r, cap, 0.25, (1.0, d.size(0.8, 1.3), 1.0))
    return [drum, dome, tube(0, h + high + r * 0.95, 0, r * 0.18, 0.35, pale, 0.6)]


def _castle(d: Dice) -> list[Part]:
    """A keep with battlements, a gate and round towers."""
    stone = _stone(d.skin)
    roof = plain(tint(d.detail, (0.4, 0.9), (0.3, 0.8)))
    w = d.size(0.8, 1.1)
    h = d.size(0.7, 1.0)
    keep = block(0, 0, 0, w, h, w * 0.7, _wall(d, stone, 2, d.count(3, 6)))
    places = np.linspace(-w + 0.1, w - 0.1, d.count(4, 8))
    battlements = [block(x, h, w * 0.64, 0.07, 0.14, 0.06, plain(stone)) for x in places]
    gate = block(0, 0, w * 0.7, 0.2, h * 0.55, 0.03, plain(tint(d.skin, (0.4, 0.7), (0.2, 0.4))))
    return [keep, *battlements, gate, *_round_towers(d, stone, roof, w, h)]


def _round_towers(d: Dice, stone: Colour, roof: np.ndarray, w: float, h: float) -> list[Part]:
    """Two to four pointed towers at the corners of a keep of half width w and height h."""
    parts = []
    for x, z in ((-1, 0.7), (1, 0.7), (-0.2, -0.3), (0.6, -0.3))[: d.count(2, 5)]:
        r = d.size(0.2, 0.32)
        high = float(h * d.form.uniform(1.2, 2.0))
        parts.append(tube(x * w, 0, z * w, r, high, _wall(d, stone, 3, 5)))
        parts.append(tube(x * w, high, z * w, r * 1.2, d.size(0.4, 0.9), roof, 1.0))
    return parts


def _pagoda(d: Dice) -> list[Part]:
    """Storeys of wood with a roof each, on a plinth of stone."""
    wood = tint(d.skin, (0.5, 0.9), (0.45, 0.85))
    roof = plain(tint(d.detail, (0.2, 0.7), (0.2, 0.6)))
    n = d.count(2, 6)
    half = d.size(0.55, 0.85)
    parts = [block(0, 0, 0, half * 1.4, 0.15, half * 1.4, plain(_stone(d.skin)))]
    shrink = d.size(0.75, 0.9)
    storey = d.size(0.3, 0.5)
    y = 0.15
    for _ in range(n):
        parts.append(block(0, y, 0, half, storey, half, _wall(d, wood, 1, d.count(2, 5))))
        parts.append(block(0, y + storey, 0, half * 1.5, 0.25, half * 1.5, roof, (0.5, 0.5)))
        y = y + storey + 0.2
        half *= shrink
    return [*parts, tube(0, y, 0, 0.07, 0.6, plain((200, 170, 70)), 0.8, 0.4)]


def _lighthouse(d: Dice) -> list[Part]:
    """A banded tower with its lamp, and the keeper's house beside it."""
    r = d.size(0.3, 0.5)
    h = d.size(1.6, 2.6)
    cap = plain(tint(d.detail, (0.5, 0.9), (0.4, 0.9)))
    bands = _bands(d)
    plinth = tube(0, 0, 0, r * 1.6, 0.2, plain(_stone(d.skin)))
    tower = tube(0, 0.2, 0, r, h, bands, d.size(0.2, 0.5))
    gallery = tube(0, h + 0.2, 0, r * 0.95, 0.08, plain((70, 70, 75)))
    lamp = tube(0, h + 0.28, 0, r * 0.5, 0.35, plain((250, 235, 170)), gloss=0.4)
    return [plinth, tower, gallery, lamp, *_keepers_house(d, cap), ball(0, h + 0.63, 0, r * 0.6, cap, 0.2)]


def _bands(d: Dice) -> np.ndarray:
    """A tube's skin with bands of white and one colour, uint8 [1, 64, 1, 3]."""
    bands = np.empty((1, 64, 1, 3), np.uint8)
    bands[:] = tint(d.skin, (0.0, 0.1), (0.85, 1.0))
    bands[0, np.arange(64) * d.count(3, 8) // 64 % 2 == 1] = tint(d.skin)
    return bands


def _keepers_house(d: Dice, cap: np.ndarray) -> list[Part]:
    """A low house with a gabled roof to the left or right of a lighthouse."""
    size = d.size(0.3, 0.5)
    x = float(d.form.choice([-1, 1])) * 0.9
    house = block(x, 0, 0.1, size, size, size * 0.8, _wall(d, _stone(d.skin), 1, 2))
    return [house, block(x, size, 0.1, size * 1.1, 0.35, size * 0.9, cap, (0.0, 1.0))]


def _arch(d: Dice) -> list[Part]:
    """Piers that carry a beam and an attic, with a statue on top."""
    stone = _stone(d.skin)
    n = d.count(2, 4)
    top = d.size(0.4, 0.8)
    w = d.size(0.8, 1.2)
    h = d.size(0.9, 1.5)
    pier = d.size(0.14, 0.24)
    piers = [block(x, 0, 0, pier, h, 0.35, _wall(d, stone, 2, 1)) for x in np.linspace(-w + pier, w - pier, n)]
    beam = block(0, h, 0, w * 1.05, 0.1, 0.42, plain(tint(d.skin, (0, 0.2), (0.8, 1))))
    attic = block(0, h + 0.1, 0, w, top, 0.36, _wall(d, stone, 1, 7))
    metal = plain(tint(d.detail, (0.4, 0.9), (0.35, 0.8)))
    cornice = block(0, h + 0.1 + top, 0, w * 1.05, 0.08, 0.4, metal)
    statue = ball(0, h + top + 0.4, 0, 0.24, metal, 0.3, (d.size(0.6, 1.6), 1, 1))
    return [*piers, beam, attic, cornice, statue]
