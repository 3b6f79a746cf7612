"""The toys of the drawn world: animals, vehicles, robots, stacked rings and dolls."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from guie.synthetic.drawing import Part, rotation
from guie.synthetic.skins import patterned, plain, tint
from guie.synthetic.solids import Dice, ball, block, tube


def toy(dice: Dice) -> list[Part]:
    """A toy: an animal, a vehicle, a robot, stacked rings or a doll."""
    kinds: tuple[Callable[[Dice], list[Part]], ...] = (_bear, _duck, _car, _robot, _rocket, _rings, _doll)
    return kinds[dice.count(0, len(kinds))](dice)


def _bear(d: Dice) -> list[Part]:
    """A bear, or with long ears a rabbit, that wears a scarf."""
    fur = plain(tint(d.skin, (0.2, 0.8), (0.4, 0.95)))
    belly = plain(tint(d.skin, (0.1, 0.4), (0.75, 1)))
    black = plain((25, 22, 25))
    fat = d.size(0.5, 0.7)
    ear = d.size(0.12, 0.26)
    head = d.size(0.38, 0.5)
    y = 0.75 + head
    limb = d.size(0.1, 0.16)
    ear_length = float(d.form.choice([1.0, 1.0, 2.6]))  # the last is a rabbit
    parts = [
        ball(0, 0.6, 0, fat, fur),
        ball(0, 0.58, fat * 0.35, fat * 0.75, belly),
        ball(0, y, 0.05, head, fur),
        ball(0, y - 0.1, head, head * 0.4, belly),
    ]
    for x in (-1, 1):
        parts.append(_ear(x, y, head, ear, ear_length, fur))
        parts.append(ball(x * head * 0.35, y + 0.1, head * 0.93, 0.06, black, 0.6))
        parts += _arm_and_leg(x, fat, limb, fur)
    scarf = patterned(d.detail, tint(d.detail), tint(d.detail))
    nose = ball(0, y - 0.05, head * 1.38, 0.07, black, 0.5)
    return [*parts, nose, tube(0, y - head - 0.02, 0.03, head * 0.85, 0.16, scarf)]


def _ear(x: int, y: float, head: float, r: float, length: float, fur: np.ndarray) -> Part:
    """The left (x = -1) or right (1) ear, of radius r and stretched upwards, on a head of this height and radius."""
    return ball(x * head * 0.7, y + head * 0.8, 0, r, fur, 0, (1, length, 0.7))


def _arm_and_leg(x: int, fat: float, limb: float, fur: np.ndarray) -> list[Part]:
    """The left (x = -1) or right (1) limbs of an animal that sits, by the radius of its body and of the limbs."""
    arm = ball(x * fat * 0.95, 0.8, 0.2, limb * 1.3, fur, 0, (1, 2, 1))
    return [arm, ball(x * fat * 0.6, 0.14, 0.4, limb * 1.4, fur, 0, (1, 1, 1.6))]


def _duck(d: Dice) -> list[Part]:
    """A duck that looks to the left."""
    body = plain(tint(d.skin))
    beak = plain(tint(d.skin, (0.7, 1), (0.8, 1)))
    wing = patterned(d.detail, tint(d.detail), tint(d.detail))
    eye = plain((20, 20, 25))
    r = d.size(0.55, 0.75)
    head = d.size(0.32, 0.45)
    y = float(r + d.form.uniform(0.45, 0.75))
    long = d.size(1.2, 1.6)
    neck = -r * long * 0.5
    parts = [
        ball(0, r, 0, r, body, 0.3, (long, 0.9, 0.95)),
        ball(neck, y, 0, head, body, 0.3),
        tube(neck, r, 0, head * 0.7, y - r, body),
        ball(neck - head, y - 0.04, 0, 0.17, beak, 0.3, (1.3, 0.5, 1)),
        ball(r * long * 0.9, r * 1.3, 0, 0.2, body, 0.3, (1.3, 0.7, 1)),
    ]
    for z in (-1, 1):
        parts.append(ball(r * 0.2, r * 1.05, z * r * 0.85, r * 0.55, wing, 0.2, (1.2, 0.7, 0.3)))
        parts.append(ball(neck - head * 0.6, y + 0.1, z * head * 0.7, 0.06, eye, 0.6))
    return parts


def _car(d: Dice) -> list[Part]:
    """A car, bus or lorry that drives to the left."""
    paint = plain(tint(d.skin))
    stripe = plain(tint(d.detail))
    long = d.size(0.9, 1.3)
    wide = d.size(0.45, 0.6)
    h = d.size(0.35, 0.6)
    cab = d.size(-0.35, 0.35)
    r = d.size(0.2, 0.32)
    n_axles = d.count(2, 4)
    slant = d.size(0.1, 0.5)
    body = block(0, r, 0, long, h, wide, paint)
    windows = block(cab, r + h, 0, long * 0.55, 0.4, wide * 0.9, plain((150, 200, 225)), (slant, slant / 2))
    trim = block(0, r + h * 0.4, 0, long * 1.01, h * 0.25, wide * 1.01, stripe)
    roof = block(cab, r + h + 0.4, 0, long * 0.55 * (1 - slant * 0.9), 0.08, wide * 0.8, paint)
    wheels = [part for x in np.linspace(-long * 0.65, long * 0.65, n_axles) for part in _axle(x, wide, r, stripe)]
    return [body, windows, trim, roof, *wheels, *_head_lamps(-long, r + h * 0.6, wide)]


def _axle(x: float, wide: float, r: float, hub: np.ndarray) -> list[Part]:
    """The two wheels of an axle."""
    return [part for z in (-wide, wide) for part in _wheel(x, z, r, hub)]


def _wheel(x: float, z: float, r: float, hub: np.ndarray) -> list[Part]:
    """A wheel of radius r that stands on the ground, and its hub."""
    turn = rotation(0, 90)
    tyre = Part("tube", (x, r, z), (r, 0.1, r), plain((35, 35, 38)), turn=turn)
    return [tyre, Part("tube", (x, r, z), (r * 0.5, 0.12, r * 0.5), hub, turn=turn)]


def _head_lamps(x: float, y: float, wide: float) -> list[Part]:
    """The two lamps at the front of a car of this half width."""
    return [ball(x, y, z * wide * 0.6, 0.1, plain((255, 240, 170)), 0.6) for z in (-1, 1)]


def _robot(d: Dice) -> list[Part]:
    """A robot with a square or a round head, an aerial and a panel on its chest."""
    metal = plain(tint(d.skin, (0.1, 0.9)))
    second = plain(tint(d.skin))
    eye = plain(tint(d.detail, (0.7, 1), (0.8, 1)))
    w = d.size(0.4, 0.6)
    h = d.size(0.7, 1.0)
    head = d.size(0.25, 0.45)
    arm = d.size(0.08, 0.15)
    y = 0.45 + h
    panel = patterned(d.detail, tint(d.detail), (230, 230, 235))
    parts = [
        block(0, 0.45, 0, w, h, w * 0.7, metal),
        block(0, 0.45 + h * 0.3, w * 0.7, w * 0.6, h * 0.45, 0.04, panel),
        tube(0, y, 0, 0.12, 0.14, second),
        _robot_head(d, y, head, metal),
        tube(0, y + head * 1.5, 0, 0.03, 0.45, second),
    ]
    for x in (-1, 1):
        parts.append(tube(x * w * 0.5, 0, 0, arm * 1.4, 0.45, second, gloss=0.3))
        parts.append(ball(x * head * 0.45, y + head, head * 0.95, 0.1, eye, 0.6))
        parts += _robot_arm(x * (w + arm), y, arm, second, metal)
    return parts


def _robot_head(d: Dice, y: float, half: float, metal: np.ndarray) -> Part:
    """A square or a round head on shoulders of height y."""
    if d.form.random() < 0.5:
        return block(0, y + 0.12, 0, half, half * 1.4, half, metal)
    return ball(0, y + 0.1 + half, 0, half, metal, 0.4)


def _robot_arm(x: float, y: float, r: float, skin: np.ndarray, metal: np.ndarray) -> list[Part]:
    """An arm of radius r that hangs from shoulders of height y, and its hand."""
    return [tube(x, y - 0.75, 0, r, 0.7, skin, gloss=0.3), ball(x, y - 0.8, 0, r * 1.4, metal, 0.4)]


def _rocket(d: Dice) -> list[Part]:
    """A rocket with three or four fins and a window or two."""
    hull = patterned(d.skin, tint(d.skin), tint(d.skin, (0, 0.3), (0.8, 1)))
    fin = plain(tint(d.detail))
    r = d.size(0.3, 0.5)
    h = d.size(1.1, 1.7)
    parts = [
        tube(0, 0.3, 0, r, h, hull, gloss=0.3),
        tube(0, 0.3 + h, 0, r, d.size(0.5, 0.9), fin, 1.0, 0.3),
        tube(0, 0.08, 0, r * 0.7, 0.25, plain((80, 80, 85)), -0.3),
    ]
    n_fins = d.count(3, 5)
    parts += [_fin(360 * k / n_fins, r, fin) for k in range(n_fins)]
    heights = np.linspace(0.4, 0.8, d.count(1, 3))
    windows = [ball(0, 0.3 + h * t, r * 0.95, r * 0.3, plain((140, 205, 235)), 0.6, (1, 1, 0.4)) for t in heights]
    return [*parts, *windows]


def _fin(yaw_deg: float, r: float, skin: np.ndarray) -> Part:
    """One fin of a rocket of radius r, turned to this side."""
    turn = rotation(yaw_deg)
    middle = turn @ np.array([0.0, 0.45, r * 1.3])
    return Part("block", (float(middle[0]), 0.4, float(middle[2])), (0.05, 0.4, r * 0.6), skin, (0.0, 0.8), turn)


def _rings(d: Dice) -> list[Part]:
    """Rings on a peg, the largest at the bottom; one has another colour."""
    n = d.count(4, 7)
    r = d.size(0.7, 0.95)
    step = float(r * d.form.uniform(0.08, 0.14))
    is_round = d.form.random() < 0.5
    changed = int(d.detail.integers(n))
    skins = [plain(tint(d.skin)) for _ in range(n)]
    skins[changed] = plain(tint(d.detail))
    rings = []
    y = 0.12
    for k, skin in enumerate(skins):
        radius = r - k * step
        if is_round:
            rings.append(ball(0, y + 0.16, 0, radius, skin, 0.35, (1, 0.19 / radius, 1)))
        else:
            rings.append(tube(0, y, 0, radius, 0.3, skin, gloss=0.2))
        y += 0.31
    base = block(0, 0, 0, 0.9, 0.12, 0.9, plain(tint(d.skin, (0.3, 0.5), (0.7, 0.85))))
    return [base, *rings, ball(0, y + 0.15, 0, 0.24, plain(tint(d.skin)), 0.4)]


def _doll(d: Dice) -> list[Part]:
    """A doll in a patterned dress, with a hat or without."""
    dress = patterned(d.skin, tint(d.skin), tint(d.skin))
    hair = plain(tint(d.skin, (0.2, 0.9), (0.2, 0.8)))
    face = plain((238, 200, 170))
    r = d.size(0.5, 0.7)
    h = d.size(0.9, 1.3)
    head = d.size(0.36, 0.46)
    y = h + head * 0.8
    hat = plain(tint(d.detail))
    parts = [
        tube(0, 0, 0, r, h, dress, d.size(0.4, 0.75)),
        ball(0, y, 0, head, face),
        ball(0, y + 0.05, -head * 0.15, head * 1.03, hair),
    ]
    for x in (-1, 1):
        parts.append(ball(x * head * 0.35, y, head * 0.92, 0.05, plain((30, 40, 60)), 0.6))
        parts.append(ball(x * r * 0.75, h * 0.7, 0.1, 0.12, face, 0, (1, 2, 1)))
    if d.form.random() < 0.6:
        parts += _hat(d, y + head * 0.6, head, hat)
    button = ball(0, h * 0.55, r * 0.7, 0.12, hat, 0.3)
    return [*parts, button]


def _hat(d: Dice, y: float, head: float, skin: np.ndarray) -> list[Part]:
    """The brim and the crown of a hat at height y, by the head's radius."""
    return [tube(0, y, 0, head * 1.4, 0.06, skin), tube(0, y, 0, head * 0.85, head * 0.9, skin, d.size(0.0, 0.6))]
