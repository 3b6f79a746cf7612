"""Clusters of the training images: k-means, numbers that stay, and which images are left out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

CHUNK = 4096  # images at a time
RESTARTS = 10  # of k-means, of which the best counts
EPSILON = 1e-6  # added to the standard deviation within a class


def of_all(see: Callable[[np.ndarray], Tensor], n_items: int) -> np.ndarray:
    """What `see` gives for all training images, float32 [n_items, dim].

    Args:
        see: Takes rows of the training set, int64 [n]; `Look.embeddings` or `Look.features`.
        n_items: Training images.
    """
    items = np.arange(n_items)
    parts = [see(chunk).float().cpu() for chunk in np.split(items, range(CHUNK, n_items, CHUNK))]
    return torch.cat(parts).numpy()


def random_seed() -> int:
    """A seed from torch's generator, which the trainer seeds for each epoch."""
    return int(torch.randint(2**31 - 1, ()))


def k_means(points: np.ndarray, n_clusters: int, n_restarts: int = RESTARTS) -> np.ndarray:
    """The cluster of each point, int64 [n]; started by k-means++ with torch's generator.

    Equal points can leave clusters empty.

    Args:
        points: float [n, dim], at least `n_clusters`.
        n_clusters: Clusters.
        n_restarts: Of which the one with the smallest sum of squares counts.
    """
    from sklearn.cluster import KMeans  # takes a second, and few stages need it

    with threadpool_limits(1):  # several threads add their sums in any order, and a restart would cluster otherwise
        found: np.ndarray = KMeans(n_clusters, n_init=n_restarts, random_state=random_seed()).fit_predict(points)
    return found.astype(np.int64)


def relabelled(new: np.ndarray, old: np.ndarray, n_clusters: int) -> np.ndarray:
    """The new clusters with the numbers of the old ones, int64 [n], so that the most images keep their number.

    Args:
        new: int64 [n].
        old: int64 [n]; negative numbers are of no cluster.
        n_clusters: Both have at most so many.

    Source: Kuhn, The Hungarian method for the assignment problem, 1955.
    """
    from scipy.optimize import linear_sum_assignment  # beside scikit-learn

    is_known = old >= 0
    overlap = np.zeros((n_clusters, n_clusters), np.int64)
    np.add.at(overlap, (new[is_known], old[is_known]), 1)
    numbers: np.ndarray = linear_sum_assignment(overlap, maximize=True)[1]
    return numbers[new]


def usable(clusters: np.ndarray, labels: np.ndarray, min_classes: int) -> np.ndarray:
    """The clusters with -1 for images that are left out, int64 [n].

    Left out are images alone of their class in their cluster, then clusters with fewer than `min_classes` classes.

    Args:
        clusters: int64 [n], from 0.
        labels: int64 [n].
        min_classes: Classes that a cluster needs.
    """
    pairs, of_pair, counts = np.unique(
        np.stack([clusters, labels], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    is_several = counts >= 2
    n_classes = np.bincount(pairs[is_several, 0], minlength=int(clusters.max()) + 1)
    is_used = is_several & (n_classes[pairs[:, 0]] >= min_classes)
    return np.where(is_used[of_pair.reshape(-1)], clusters, -1)


def cluster_curves(clusters: np.ndarray) -> dict[str, float]:
    """How many clusters there are, images of the smallest and the largest, and the share of images left out.

    Args:
        clusters: int64 [n]; negative numbers are left out.
    """
    sizes = np.bincount(clusters[clusters >= 0])
    sizes = sizes[sizes > 0]
    return {
        "n_clusters": len(sizes),
        "smallest_cluster": int(sizes.min()) if len(sizes) else 0,
        "largest_cluster": int(sizes.max()) if len(sizes) else 0,
        "left_out_share": round(float((clusters < 0).mean()), 6),
    }


def standardised_in_class(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Each feature less its class' mean, over its class' standard deviation (of the population), float32 [n, dim].

    Images alone of their class become 0.

    Args:
        features: float32 [n, dim].
        labels: int64 [n], from 0.
    """
    n_classes = int(labels.max()) + 1
    counts = np.bincount(labels, minlength=n_classes).clip(1)[:, None]
    means = _sums(features, labels, n_classes) / counts
    centred = features - means[labels]
    deviations = np.sqrt(_sums(centred**2, labels, n_classes) / counts)
    standard: np.ndarray = (centred / (deviations[labels] + EPSILON)).astype(np.float32)
    return standard


def _sums(values: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Of each class, float64 [n_classes, dim]."""
    sums = np.zeros((n_classes, values.shape[1]))
    np.add.at(sums, labels, values)
    return sums
