"""Drawn photos of a few labels for tests of what reads people's own folders."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (40, 60, 200), "green": (40, 170, 60), "red": (210, 40, 40)}


def draw(path: Path, colour: tuple[int, int, int], seed: int, size: tuple[int, int] = (60, 40)) -> Path:
    """A JPEG of noise around a colour, with a lighter stripe whose place follows the seed; size is (width, height)."""
    rng = np.random.default_rng(seed)
    pixels = np.clip(np.array(colour) + rng.integers(-40, 40, (size[1], size[0], 3)), 0, 255).astype(np.uint8)
    at = int(rng.integers(0, size[1] - 8))
    pixels[at : at + 8] = np.minimum(pixels[at : at + 8].astype(int) + 60, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)
    return path


def labelled(root: Path, n: int = 4, size: tuple[int, int] = (60, 40)) -> Path:
    """A folder for each colour with `n` photos."""
    for i, (name, colour) in enumerate(COLOURS.items()):
        for k in range(n):
            draw(root / name / f"{k}.jpg", colour, 100 * i + k, size)
    return root
