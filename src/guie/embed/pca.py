"""PCA as a named, saved object: fitted in float64, optionally whitening in part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guie.checkpoint import whole_file


@dataclass(frozen=True)
class PCA:
    """A linear projection learned from features.

    Attributes:
        mean_: float64 [n_features].
        components_: float64 [dim, n_features], orthonormal rows, by falling variance.
        explained_variance_: float64 [dim].
        explained_variance_ratio_: float64 [dim], shares of the whole variance.
        whiten: Component i is divided by its standard deviation to this power: 0 not at all, 1 full whitening.
    """

    mean_: np.ndarray
    components_: np.ndarray
    explained_variance_: np.ndarray
    explained_variance_ratio_: np.ndarray
    whiten: float = 0.0

    @property
    def matrix(self) -> np.ndarray:
        """float64 [dim, n_features]: components with the whitening in them."""
        return self.components_ / np.sqrt(np.maximum(self.explained_variance_, 1e-12))[:, None] ** self.whiten

    def transform(self, features: np.ndarray) -> np.ndarray:
        """float32 [n, dim] of features, float [n, n_features]."""
        return ((features - self.mean_) @ self.matrix.T).astype(np.float32)

    def save(self, path: Path) -> None:
        """Writes an `.npz`, whole or not at all."""
        with whole_file(path) as temporary, temporary.open("wb") as handle:
            np.savez(
                handle,
                mean=self.mean_,
                components=self.components_,
                explained_variance=self.explained_variance_,
                explained_variance_ratio=self.explained_variance_ratio_,
                whiten=np.float64(self.whiten),
            )

    @classmethod
    def load(cls, path: Path) -> PCA:
        """Reads what `save` wrote; FileNotFoundError if there is nothing."""
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; door 07 writes it")
        with np.load(path) as z:
            return cls(z["mean"], z["components"], z["explained_variance"], z["explained_variance_ratio"], float(z["whiten"]))


def fit_pca(features: np.ndarray, dim: int, whiten: float = 0.0, chunk: int = 65536) -> PCA:
    """Fits a PCA by the eigenvectors of the covariance, accumulated in float64 chunk by chunk.

    Args:
        features: float [n, n_features], n >= 2; may be a memory map.
        dim: Components to keep, at most min(n - 1, n_features).
        whiten: See `PCA`.
        chunk: Rows read at a time.

    Raises:
        ValueError: too few rows for `dim`, or a feature that is not finite.
    """
    n, width = features.shape
    if not 1 <= dim <= min(n - 1, width):
        raise ValueError(f"PCA to {dim} dimensions needs more than {dim} images and at least {dim} features; there are {n} images of {width} features")
    chunks = range(0, n, chunk)
    mean = sum(features[i : i + chunk].sum(axis=0, dtype=np.float64) for i in chunks) / n
    if not np.isfinite(mean).all():
        raise ValueError("a training feature is not finite; the stage it comes from has diverged: lower its lr")
    scatter = np.zeros((width, width))
    for i in chunks:
        centred = features[i : i + chunk].astype(np.float64) - mean
        scatter += centred.T @ centred
    values, vectors = np.linalg.eigh(scatter / (n - 1))
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    return PCA(mean, np.ascontiguousarray(vectors[:, :dim].T), values[:dim], values[:dim] / max(values.sum(), 1e-300), whiten)
