"""What the embedding looks like in numbers: its spectrum, the similarities of pairs, a map in the plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from guie.embed.search import l2_normalised

# Similarities compare so many queries with so many images. Of more images, a sample is taken: the cost stays limited.
N_QUERIES = 2_000
N_INDEX = 20_000
BLOCK = 256  # queries at a time
N_BINS = 2_000  # of cosines from -1 to 1
MIN_MAPPED = 10


@dataclass(frozen=True)
class Spectrum:
    """How the variance is spread over directions.

    Attributes:
        shares: float64 [dim], falling, sum 1.
        effective_dim: exp of the shares' entropy: as many equal directions would be spread as much.
    """

    shares: np.ndarray
    effective_dim: float


@dataclass(frozen=True)
class Similarities:
    """How the cosines of pairs are spread; counts in `N_BINS` equal bins from -1 to 1.

    Attributes:
        positives: int64 [n_bins], pairs of one class.
        negatives: int64 [n_bins], pairs of two classes.
        nearest_negatives: int64 [n_bins], of each query the most alike image of another class.
    """

    positives: np.ndarray
    negatives: np.ndarray
    nearest_negatives: np.ndarray

    @property
    def median_positive(self) -> float:
        """The cosine that half of the positives reach, to the width of a bin."""
        return float(bin_centres(N_BINS)[np.searchsorted(np.cumsum(self.positives), self.positives.sum() / 2)])

    def share_above(self, counts: np.ndarray, cosine: float) -> float:
        """The share of pairs whose cosine lies above."""
        return float(counts[bin_centres(N_BINS) > cosine].sum() / max(1, counts.sum()))


def bin_centres(n_bins: int) -> np.ndarray:
    """float64 [n_bins], the middles of equal bins from -1 to 1."""
    return -1 + (2 * np.arange(n_bins) + 1) / n_bins


def spectrum(vectors: np.ndarray) -> Spectrum | None:
    """The eigenvalues of the vectors' covariance as shares of their sum; None when all vectors are equal.

    Args:
        vectors: float [n, dim].

    Source: the effective rank of Roy and Vetterli, 2007.
    """
    centred = np.asarray(vectors, np.float64) - np.mean(vectors, axis=0, dtype=np.float64)
    values = np.maximum(np.linalg.eigvalsh(centred.T @ centred)[::-1], 0.0)
    if not values.sum() > 1e-12 * len(centred):
        return None
    shares = values / values.sum()
    known = shares[shares > 0]
    return Spectrum(shares, float(np.exp(-(known * np.log(known)).sum())))


def similarities(vectors: np.ndarray, class_ids: np.ndarray, seed: int) -> Similarities | None:
    """Cosines of queries with all other images, block by block.

    Of many images a sample is compared: `N_QUERIES` queries with `N_INDEX` images.

    Args:
        vectors: float [n, dim].
        class_ids: int [n].
        seed: Of the sample.

    Returns:
        None when the sample has no pair of one class, or none of two.
    """
    order = np.random.default_rng(seed).permutation(len(vectors))[:N_INDEX]
    vectors = l2_normalised(vectors[order])
    class_ids = np.asarray(class_ids)[order]
    n = min(N_QUERIES, len(order))
    counts = np.zeros((3, N_BINS), np.int64)
    for first in range(0, n, BLOCK):
        rows = np.arange(first, min(first + BLOCK, n))
        cosines = vectors[rows] @ vectors.T
        is_same = class_ids[rows, None] == class_ids[None, :]
        nearest = np.where(is_same, -np.inf, cosines).max(axis=1)
        is_positive = is_same.copy()
        is_positive[np.arange(len(rows)), rows] = False  # the query itself
        for row, values in enumerate((cosines[is_positive], cosines[~is_same], nearest[np.isfinite(nearest)])):
            bins = np.clip((values + 1) / 2 * N_BINS, 0, N_BINS - 1).astype(np.int64)
            counts[row] += np.bincount(bins, minlength=N_BINS)
    return Similarities(*counts) if counts[:2].any(axis=1).all() else None


def sample(ids: pd.DataFrame, n_images: int, seed: int) -> np.ndarray:
    """Rows of about `n_images` images: whole classes in random order, as many images of each domain as of the others.

    Args:
        ids: class_id, domain.
        n_images: At most so many, but one of each domain.
        seed: The choice is a function of it.

    Returns:
        int64, sorted.
    """
    rng = np.random.default_rng(seed)
    share = max(1, n_images // max(1, ids["domain"].nunique()))
    chosen = []
    table = ids[["class_id", "domain"]].reset_index(drop=True)
    table = table.assign(row=np.arange(len(ids)))
    for _, of in table.groupby("domain", sort=True):
        classes = rng.permutation(np.sort(of["class_id"].unique()))
        turn = pd.Series(np.arange(len(classes)), index=classes)
        chosen.append(of.assign(turn=of["class_id"].map(turn)).sort_values(["turn", "row"])["row"].to_numpy()[:share])
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


def plane(vectors: np.ndarray, seed: int) -> np.ndarray:
    """A map of the vectors, each axis from 0 to 1.

    It is made by t-SNE, which starts from the first two principal components. Of fewer than `MIN_MAPPED` vectors these
    components are the map. One thread does the work: several would add in an order that changes from run to run, and
    t-SNE enlarges such small differences.

    Args:
        vectors: float [n, dim].
        seed: Of t-SNE.

    Returns:
        float64 [n, 2].
    """
    unit = l2_normalised(vectors)
    if len(unit) < 2 or np.ptp(unit, axis=0).max() < 1e-6:
        return np.full((len(unit), 2), 0.5)
    with threadpool_limits(1):
        if len(unit) < MIN_MAPPED:
            n_axes = min(2, unit.shape[1])
            placed = np.pad(PCA(n_axes, svd_solver="full").fit_transform(unit), ((0, 0), (0, 2 - n_axes)))
        else:
            perplexity = min(30.0, (len(unit) - 1) / 3)
            placed = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, max_iter=500).fit_transform(unit)
    placed = np.asarray(placed, np.float64)
    low, high = placed.min(axis=0), placed.max(axis=0)
    return (placed - low) / np.where(high > low, high - low, 1.0)
