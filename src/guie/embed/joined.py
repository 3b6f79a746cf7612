"""Features of backbones that stand side by side: each on the disk by itself, joined row by row when they are read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from guie.embed.halves import Halves
from guie.embed.search import l2_normalised


class Joined:
    """Several backbones' features, each divided by its length, as `guie.model.side_by_side.SideBySide` gives them."""

    def __init__(self, parts: Sequence[np.ndarray | Halves | Joined]) -> None:
        """`parts` are float32 [n, d] each, possibly memory maps."""
        self.parts = parts
        self.shape: tuple[int, int] = (len(parts[0]), sum(part.shape[1] for part in parts))

    def __len__(self) -> int:
        """Number of rows."""
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """float32 [n_rows, sum of the widths]."""
        return np.concatenate([l2_normalised(np.asarray(part[rows])) for part in self.parts], axis=1)
