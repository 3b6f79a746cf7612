"""Shared by buildings, packages and toys: upright solids, and the random generators of an instance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from guie.synthetic.drawing import Part


@dataclass(frozen=True)
class Dice:
    """The random generators of an instance. Near-twins have the same `form` and `skin`; only their `detail` differs.

    Attributes:
        form: Kind, proportions and layout.
        skin: Colours, patterns and the brand.
        detail: One accent: a roof's colour, a flavour, a scarf.
    """

    form: np.random.Generator
    skin: np.random.Generator
    detail: np.random.Generator

    def size(self, low: float, high: float) -> float:
        """A random length or proportion in [low, high), from `form`."""
        return float(self.form.uniform(low, high))

    def count(self, low: int, end: int) -> int:
        """A random integer from `low` to `end` - 1, from `form`."""
        return int(self.form.integers(low, end))


def block(
    x: float,
    y: float,
    z: float,
    w: float,
    h: float,
    d: float,
    skin: np.ndarray,
    taper: tuple[float, float] = (0.0, 0.0),
) -> Part:
    """A block whose base is at height y; w and d are half of its width and depth, h its full height."""
    return Part("block", (x, y + h / 2, z), (w, h / 2, d), skin, taper)


def tube(
    x: float,
    y: float,
    z: float,
    r: float,
    h: float,
    skin: np.ndarray,
    taper: float = 0.0,
    gloss: float = 0.0,
) -> Part:
    """A tube whose base is at height y; r is its radius, h its full height."""
    return Part("tube", (x, y + h / 2, z), (r, h / 2, r), skin, (taper, 0.0), gloss=gloss)


def ball(
    x: float,
    y: float,
    z: float,
    r: float,
    skin: np.ndarray,
    gloss: float = 0.0,
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Part:
    """A ball around (x, y, z) of radius r times `stretch` along each axis."""
    return Part("ball", (x, y, z), (r * stretch[0], r * stretch[1], r * stretch[2]), skin, gloss=gloss)
