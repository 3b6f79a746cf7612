"""What a projection keeps of unit vectors that it was not fitted on; no labels are needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from guie.embed.projection import Projection
from guie.embed.search import l2_normalised, search, vectors

K = 5  # neighbours, as the host's metric asks


@dataclass(frozen=True)
class Kept:
    """Shares, 0 to 1.

    Attributes:
        spectrum: Of the vectors' variance, what lies in the directions that the projection keeps.
        neighbours: Of each vector's five nearest by all numbers, how many are among its five nearest in the directions
            that the projection keeps; the mean. Both are less the projection's center, and directions are of length
            one: so another center alone, with all directions kept, and whitening change nothing.
    """

    spectrum: float
    neighbours: float


def kept(joined: np.ndarray, projection: Projection) -> Kept:
    """What a projection keeps of vectors.

    Args:
        joined: float32 [n, D] of length one, n > 5.
        projection: Of D numbers.
    """
    spectrum = spectrum_kept(joined, projection.matrix)
    centred = (joined - projection.center).astype(np.float32)
    directions = l2_normalised(projection.matrix.astype(np.float32))
    own, found = (
        search(l2_normalised(rows), vectors(rows), K, np.arange(len(rows)))[0]
        for rows in (centred, centred @ directions.T)
    )
    shared = ((own[:, :, None] == found[:, None, :]) & (own >= 0)[:, :, None]).any(axis=2)
    return Kept(spectrum, float(shared.mean()))


def spectrum_kept(joined: np.ndarray, matrix: np.ndarray) -> float:
    """The share of the variance of vectors, float [n, D], in the row space of a matrix, float [dim, D]."""
    centred = joined.astype(np.float64) - joined.mean(axis=0, dtype=np.float64)
    basis = np.linalg.qr(matrix.T.astype(np.float64))[0]
    return float(np.square(centred @ basis).sum() / max(np.square(centred).sum(), 1e-300))
