"""Euclidean distances with finite slopes, and how densely the distances of random points lie on the unit sphere."""

from __future__ import annotations

import torch
from torch import Tensor

NEAREST = 0.5  # smaller distances count as this one where negatives are drawn
FARTHEST = 1.4  # and larger ones as this


def cosine_distances(cosines: Tensor) -> Tensor:
    """Euclidean distances of unit vectors with these cosines, float, of the same shape.

    The rounding of cosines decides over small distances: below sqrt(eps), 3.5e-4 in float32, a distance is 0 and has no
    gradient. The slope of a square root would be infinite there.
    """
    squares = 2 - 2 * cosines
    least = torch.finfo(squares.dtype).eps
    return torch.where(squares > least, squares.clamp_min(least).sqrt(), torch.zeros_like(squares))


def unit_distances(rows: Tensor, others: Tensor) -> Tensor:
    """Distances of all pairs of unit vectors, float [n, m]; see `cosine_distances`.

    Args:
        rows: float [n, dim].
        others: float [m, dim].
    """
    return cosine_distances(rows @ others.T)


def row_distances(rows: Tensor, others: Tensor) -> Tensor:
    """The distance of each row to the other row in its place, float [n]; the gradient of equal rows is 0.

    They are computed from differences, and so exact for near rows, too.

    Args:
        rows: float [n, dim].
        others: float [n, dim].
    """
    return torch.linalg.vector_norm(rows - others, dim=1)


def log_inverse_density(distances: Tensor, dim: int, nearest: float = NEAREST, farthest: float = FARTHEST) -> Tensor:
    """log 1/q(d), but for a constant: q is the density of the distance of two random points on the unit sphere.

    The density vanishes near 0 and 2: distances beyond `nearest` and `farthest` count as these.

    Args:
        distances: float, of any shape.
        dim: Numbers of a point, at least 2.
        nearest: Above 0.
        farthest: At most 2.

    Source: Wu et al., Sampling matters in deep embedding learning, ICCV 2017, arXiv 1706.07567.
    """
    within = distances.clamp(nearest, farthest)
    least = torch.finfo(within.dtype).eps
    return (2 - dim) * within.log() - (dim - 3) / 2 * (1 - within.square() / 4).clamp_min(least).log()
