"""A small exported model with a hand-written double: cells of a 4 x 4 grid, each the mean colour of its pixels."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

N_CELLS = 4
DIM = 3 * N_CELLS * N_CELLS


class Grid(nn.Module):
    """uint8 [n, 3, height, width] -> float32 [n, 48], not normalised."""

    def __init__(self, gain: float, pack_px: int) -> None:
        super().__init__()
        self.gain = gain
        self.pack_px = pack_px

    def forward(self, images: Tensor) -> Tensor:
        cells = nn.functional.adaptive_avg_pool2d(images.float() - 100.0, [4, 4])
        return self.gain * cells.flatten(1) + float(min(self.pack_px, 0))


def export_grid(path: Path, gain: float = 1.0, pack_px: int = 32) -> Path:
    """Writes the model as TorchScript."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.jit.script(Grid(gain, pack_px)).save(path)
    return path


def grid_by_hand(pixels: np.ndarray) -> np.ndarray:
    """float64 [48] of unit length, of uint8 [height, width, 3] whose sides are multiples of 4."""
    height, width = pixels.shape[0] // N_CELLS, pixels.shape[1] // N_CELLS
    values = [
        np.mean([
            float(pixels[y, x, channel]) - 100.0
            for y in range(row * height, (row + 1) * height)
            for x in range(column * width, (column + 1) * width)
        ])
        for channel in range(3)
        for row in range(N_CELLS)
        for column in range(N_CELLS)
    ]  # fmt: skip
    return np.array(values) / np.sqrt(np.sum(np.square(values)))


def draw(path: Path, seed: int, size: tuple[int, int] = (16, 16)) -> np.ndarray:
    """Writes a PNG of coloured noise, `size` = (width, height), and returns its pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels
