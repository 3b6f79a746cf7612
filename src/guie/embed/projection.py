"""The last step of an exported model: joined outputs of its networks to an embedding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from guie.embed.pca import PCA


@dataclass(frozen=True)
class Projection:
    """The last operation of a file that door 08 writes.

    Attributes:
        center: float [D], subtracted from the joined outputs.
        matrix: float [dim, D].
        has_unit_length: Whether embeddings are L2-normalised.
    """

    center: np.ndarray
    matrix: np.ndarray
    has_unit_length: bool

    @property
    def dim(self) -> int:
        """Number of dimensions of an embedding."""
        return len(self.matrix)

    def __call__(self, joined: np.ndarray) -> np.ndarray:
        """Embeddings, float32 [n, dim], of joined outputs, float [n, D]."""
        projected: np.ndarray = ((joined - self.center) @ self.matrix.T).astype(np.float32)
        if not self.has_unit_length:
            return projected
        return projected / np.linalg.norm(projected, axis=1, keepdims=True).clip(1e-12)

    def of(self, pca: PCA) -> Projection:
        """The same projection with another PCA."""
        return Projection(pca.mean_, pca.matrix, self.has_unit_length)
