"""Colours and textures of the drawn world. A skin is a stack of textures, uint8 [n_panels, h, w, 3]; see `Part`."""

from __future__ import annotations

import cv2
import numpy as np

Colour = tuple[int, int, int]


def tint(
    rng: np.random.Generator, saturation: tuple[float, float] = (0.5, 0.95), value: tuple[float, float] = (0.5, 0.95)
) -> Colour:
    """A random colour (RGB) whose saturation and brightness lie in these ranges of 0..1."""
    hsv = np.array([[[rng.integers(180), 255 * rng.uniform(*saturation), 255 * rng.uniform(*value)]]], np.uint8)
    red, green, blue = (int(c) for c in cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0])
    return red, green, blue


def darker(colour: Colour, share: float) -> Colour:
    """The colour with this share, 0..1, of its light."""
    red, green, blue = (int(part * share) for part in colour)
    return red, green, blue


def plain(colour: Colour) -> np.ndarray:
    """A skin of one colour."""
    return np.array(colour, np.uint8).reshape(1, 1, 1, 3)


def mottled(rng: np.random.Generator, colour: Colour, px: int, amount: float) -> np.ndarray:
    """A texture of the colour with soft spots of +-amount, uint8 [px, px, 3]."""
    coarse = cv2.resize(
        rng.uniform(-amount, amount, (6, 6)).astype(np.float32), (px, px), interpolation=cv2.INTER_CUBIC
    )
    fine = rng.uniform(-amount / 2, amount / 2, (px, px)).astype(np.float32)
    return np.clip(np.array(colour, np.float32) + (coarse + fine)[..., None], 0, 255).astype(np.uint8)


def patterned(rng: np.random.Generator, colour: Colour, other: Colour) -> np.ndarray:
    """A skin, uint8 [1, 64, 64, 3], of one colour, plain or with stripes, rings, checks or dots of another."""
    skin = np.empty((64, 64, 3), np.uint8)
    skin[:] = colour
    kind, n = int(rng.integers(5)), int(rng.integers(3, 7))
    y, x = np.mgrid[0:64, 0:64] * n // 32
    masks = (x % 2 == 1, y % 2 == 1, (x + y) % 2 == 1)
    if kind < 3:
        skin[masks[kind]] = other
    elif kind == 3:
        for _ in range(4 * n):
            cv2.circle(
                skin, (int(rng.integers(64)), int(rng.integers(8, 56))), int(rng.integers(3, 6)), other, -1, cv2.LINE_AA
            )
    return skin[None]
