"""Features stored as bfloat16, in half the bytes, and read as float32. numpy has no bfloat16, so its bits are stored as
uint16."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_halves(features: Tensor) -> np.ndarray:
    """Rounds float32 [n, d] to bfloat16 and returns the bits as uint16 [n, d]."""
    return features.to(torch.bfloat16).view(torch.uint16).numpy()


class Halves:
    """bfloat16 numbers on the disk, read by rows as float32 [n, d]."""

    def __init__(self, bits: np.ndarray) -> None:
        """`bits` is uint16 [n, d], possibly a memory map."""
        self.bits = bits
        self.shape = bits.shape

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.bits)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """float32 [n_rows, d]."""
        return (self.bits[rows].astype(np.uint32) << 16).view(np.float32)
