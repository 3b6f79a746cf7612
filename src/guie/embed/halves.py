"""Features on the disk in half the bytes: bfloat16, which numpy does not have, read as float32."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_halves(features: Tensor) -> np.ndarray:
    """float32 [n, d] rounded to bfloat16, as the uint16 [n, d] of its bits."""
    return features.to(torch.bfloat16).view(torch.uint16).numpy()


class Halves:
    """bfloat16 numbers, read as float32 [n, d] by rows."""

    def __init__(self, bits: np.ndarray) -> None:
        """`bits` is uint16 [n, d], maybe a memory map."""
        self.bits = bits
        self.shape = bits.shape

    def __len__(self) -> int:
        """n."""
        return len(self.bits)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """float32 [n_rows, d]."""
        return (self.bits[rows].astype(np.uint32) << 16).view(np.float32)
