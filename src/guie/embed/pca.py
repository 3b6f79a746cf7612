"""PCA that is fitted in one pass over features larger than memory, with optional partial whitening."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from scipy.linalg import blas, eigh

from guie.files import whole_file
from guie.shown import progress

MOMENTS = "moments.npz"  # in door 07's folder: moments of what the PCA was fitted on
CHUNK = 8192  # rows: 150 MB of 2,304 features in float64


@dataclass(frozen=True)
class PCA:
    """A linear projection learned from features.

    Attributes:
        mean_: float64 [n_features].
        components_: float64 [dim, n_features], orthonormal rows, in descending order of variance.
        explained_variance_: float64 [dim].
        explained_variance_ratio_: float64 [dim], shares of the total variance.
        whiten: Component i is divided by its standard deviation to this power: 0 is no whitening, 1 full whitening.
    """

    mean_: np.ndarray
    components_: np.ndarray
    explained_variance_: np.ndarray
    explained_variance_ratio_: np.ndarray
    whiten: float = 0.0

    @property
    def matrix(self) -> np.ndarray:
        """float64 [dim, n_features]: the components, each scaled by the whitening."""
        return self.components_ / np.sqrt(np.maximum(self.explained_variance_, 1e-12))[:, None] ** self.whiten

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Projects features, float [n, n_features], to float32 [n, dim]. The features may be a memory map."""
        projected = np.empty((len(features), len(self.components_)), dtype=np.float32)
        matrix = self.matrix
        for first in range(0, len(features), CHUNK):
            projected[first : first + CHUNK] = (features[first : first + CHUNK] - self.mean_) @ matrix.T
        return projected

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
        """Reads what `save` wrote.

        Raises:
            FileNotFoundError: the file does not exist.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; door 07 writes it")
        with np.load(path) as z:
            return cls(
                z["mean"], z["components"], z["explained_variance"], z["explained_variance_ratio"], float(z["whiten"])
            )


class Rows(Protocol):
    """Features that are read a few rows at a time: an array, a memory map, or an object that computes them when they
    are read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, n_features)."""
        ...

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """float16, float32 or float64 [n_rows, n_features]."""
        ...


def fit_pca(features: np.ndarray | Sequence[Rows], dim: int, whiten: float = 0.0, chunk: int = CHUNK) -> PCA:
    """Fits a PCA by the eigenvectors of the covariance, in one pass and in float64, for any number of rows.

    Each block of rows is centred on its own mean before it is squared, so that a large common mean costs no digits. The
    scatter between the blocks' means is added at the end. Memory: one block and a few matrices of n_features x
    n_features.

    Args:
        features: float16, float32 or float64 [n, n_features], n >= 2, or a list of such (shards); may be memory maps.
        dim: Components to keep, at most min(n - 1, n_features).
        whiten: See `PCA`.
        chunk: Rows read at a time.

    Raises:
        ValueError: too few rows for `dim`, shards of different widths, or a feature that is not finite.

    Source: Chan, Golub and LeVeque 1983, the pairwise update of sums of squares, here for blocks and matrices.
    """
    return pca_of(moments_of(features, dim, chunk), dim, whiten)


@dataclass(frozen=True)
class Moments:
    """The statistics of features from which a PCA is computed.

    Attributes:
        n: Number of rows.
        mean: float64 [n_features].
        covariance: float64 [n_features, n_features]; only the lower triangle is filled.
    """

    n: int
    mean: np.ndarray
    covariance: np.ndarray

    def save(self, path: Path) -> None:
        """Writes an `.npz`, whole or not at all; the lower triangle in float32."""
        triangle = self.covariance[np.tril_indices(len(self.mean))].astype(np.float32)
        with whole_file(path) as temporary, temporary.open("wb") as handle:
            np.savez(handle, n=np.int64(self.n), mean=self.mean, triangle=triangle)

    @classmethod
    def load(cls, path: Path) -> Moments:
        """Reads what `save` wrote."""
        with np.load(path) as z:
            mean, triangle = z["mean"], z["triangle"]
            covariance = np.zeros((len(mean), len(mean)))
            covariance[np.tril_indices(len(mean))] = triangle
            return cls(int(z["n"]), mean, covariance)


def moments_of(features: np.ndarray | Sequence[Rows], dim: int = 1, chunk: int = CHUNK) -> Moments:
    """Mean and covariance in one pass; arguments and errors are those of `fit_pca`."""
    shards: list[Rows] = [features] if isinstance(features, np.ndarray) else list(features)
    n, width = _shape_of(shards, dim)
    mean, scatter = _mean_and_scatter(shards, width, chunk)
    return Moments(n, mean, scatter / (n - 1))


def mixed(parts: Sequence[tuple[Moments, float]]) -> Moments:
    """The moments of a mixture. The share of a part depends on its weight alone, not on its number of rows.

    Args:
        parts: Moments of equal width, each with its weight, at least 0; the sum is more than 0.
    """
    shares = np.array([weight for _, weight in parts]) / sum(weight for _, weight in parts)
    mean = np.asarray(sum(share * part.mean for share, (part, _) in zip(shares, parts, strict=True)))
    covariance = np.zeros((len(mean), len(mean)))
    for share, (part, _) in zip(shares, parts, strict=True):
        apart = part.mean - mean
        covariance += share * (part.covariance + np.tril(np.outer(apart, apart)))
    return Moments(sum(part.n for part, _ in parts), mean, covariance)


def with_spread(moments: Moments, weight: float, others: Sequence[tuple[Moments, float]]) -> Moments:
    """Mixes the covariances of other moments into some moments. Each covariance is about its own mean; the mean of the
    result is that of `moments`.

    Args:
        moments: The moments that give the mean.
        weight: Their share of the covariance, relative to the shares of the others; may be 0 if there are others.
        others: Moments of equal width, each with its share.
    """
    if not others:
        return moments
    whole = weight + sum(share for _, share in others)
    covariance = moments.covariance * (weight / whole)
    for other, share in others:
        covariance += other.covariance * (share / whole)
    return Moments(moments.n * bool(weight) + sum(other.n for other, _ in others), moments.mean, covariance)


def pca_of(moments: Moments, dim: int, whiten: float = 0.0) -> PCA:
    """The PCA of features with these moments.

    Args:
        moments: Of the features.
        dim: Components to keep, at most n_features.
        whiten: See `PCA`.
    """
    width = len(moments.mean)
    whole = float(np.trace(moments.covariance))
    values, vectors = eigh(moments.covariance, lower=True, subset_by_index=(width - dim, width - 1))
    values = np.maximum(values[::-1], 0.0)
    return PCA(moments.mean, np.ascontiguousarray(vectors[:, ::-1].T), values, values / max(whole, 1e-300), whiten)


def _shape_of(shards: list[Rows], dim: int) -> tuple[int, int]:
    """The number of rows of all shards together, and the number of features.

    Raises:
        ValueError: shards of different widths, or too few rows or features for `dim` components.
    """
    widths = {shard.shape[1] for shard in shards}
    if len(widths) != 1:
        raise ValueError(f"the shards have {sorted(widths)} features; all must have the same number")
    n = sum(map(len, shards))
    width = widths.pop()
    if not 1 <= dim <= min(n - 1, width):
        raise ValueError(
            f"PCA to {dim} dimensions needs more than {dim} images and at least {dim} features; "
            f"there are {n} images of {width} features"
        )
    return n, width


def _mean_and_scatter(shards: list[Rows], width: int, chunk: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean of all rows, and the scatter matrix: the sum over rows of (x - mean)(x - mean)^T.

    Args:
        shards: float [n_i, width] each.
        width: Number of features.
        chunk: Rows read at a time.

    Returns:
        float64 [width], and float64 [width, width] with only the lower triangle filled.

    Raises:
        ValueError: a feature that is not finite.
    """
    scatter = np.zeros((width, width), order="F")
    means = []
    counts = []
    read = itertools.chain.from_iterable(blocks(shard, chunk) for shard in shards)
    for part in progress(
        read, total=sum(-(-len(shard) // chunk) for shard in shards), desc="PCA", unit="block", delay=3, disable=None
    ):
        block = part.astype(np.float64)
        means.append(block.mean(axis=0))
        counts.append(len(block))
        if not np.isfinite(means[-1]).all():
            raise ValueError("a feature is not finite; the stage it comes from has diverged: lower its lr")
        block -= means[-1]
        # computes the lower triangle only, half of the product
        scatter = blas.dsyrk(1.0, block.T, 1.0, scatter, lower=1, overwrite_c=1)
    mean = np.average(means, axis=0, weights=counts)
    apart = (np.stack(means) - mean) * np.sqrt(counts)[:, None]
    return mean, blas.dsyrk(1.0, apart.T, 1.0, scatter, lower=1, overwrite_c=1)


def blocks(rows: Rows, chunk: int = CHUNK) -> Iterator[np.ndarray]:
    """Yields `chunk` rows at a time; the last block may have fewer."""
    for first in range(0, len(rows), chunk):
        yield rows[first : first + chunk]
