"""What buildings, packages and toys have in common: upright solids, and where a thing's random numbers come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from guie.synthetic.drawing import Part


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

    def size(self, low: float, high: float) -> float:
        """A length or proportion of the form, between these ends."""
        return float(self.form.uniform(low, high))

    def count(self, low: int, end: int) -> int:
        """A number of the form, from `low` to `end` - 1."""
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
    """A block that stands on height y, by its half width and depth and whole height."""
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
    """A tube that stands on height y, by radius and height."""
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
    """A ball around (x, y, z), by radius, stretched along each axis."""
    return Part("ball", (x, y, z), (r * stretch[0], r * stretch[1], r * stretch[2]), skin, gloss=gloss)
