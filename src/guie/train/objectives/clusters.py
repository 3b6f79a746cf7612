"""Clusters of the training images: k-means, numbers that stay, and which images are left out."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

CHUNK = 1 << 15  # images at a time: 134 MB of 1,024 numbers each
RESTARTS = 10  # of k-means, of which the best counts
EPSILON = 1e-6  # added to the standard deviation within a class


def of_all(see: Callable[[np.ndarray], Tensor], n_items: int) -> np.ndarray:
    """What `see` gives for all training images, float32 [n_items, dim].

    Args:
        see: Takes rows of the training set, int64 [n]; `Look.embeddings` or `Look.features`.
        n_items: Training images.
    """
    found = np.empty((0, 0), np.float32)
    for chunk in np.split(np.arange(n_items), range(CHUNK, n_items, CHUNK)):
        seen = see(chunk).float().cpu().numpy()
        if not len(found):
            found = np.empty((n_items, seen.shape[1]), np.float32)
        found[chunk] = seen
    return found


def random_seed() -> int:
    """A seed from torch's generator, which the trainer seeds for each epoch."""
    return int(torch.randint(2**31 - 1, ()))


def k_means(
    points: np.ndarray, n_clusters: int, n_restarts: int = RESTARTS, starts: np.ndarray | None = None
) -> np.ndarray:
    """The cluster of each point, int64 [n], the same for any number of threads.

    Equal points can leave clusters empty.

    Args:
        points: float [n, dim], at least `n_clusters`.
        n_clusters: Clusters.
        n_restarts: Starts by k-means++ with torch's generator; the one with the smallest sum of squares counts.
        starts: float [n_clusters, dim], the first centres: nothing is drawn, and there is one start.
    """
    from sklearn.cluster import KMeans  # takes a second, and few stages need it
    from sklearn.exceptions import ConvergenceWarning

    drawn = {"n_init": n_restarts, "random_state": random_seed()} if starts is None else {"init": starts, "n_init": 1}
    # Several threads add their sums in any order: an image between two clusters would go here or there.
    with _thread_pools().limit(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of empty clusters; a curve tells how many there are
        found: np.ndarray = KMeans(n_clusters, **drawn).fit_predict(points)
    return found.astype(np.int64)


@functools.cache
def _thread_pools() -> ThreadpoolController:
    """Those of this process, once scikit-learn is loaded. To find them takes longer than to cluster 500 images."""
    return ThreadpoolController()


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


def standardise_in_class(features: np.ndarray, labels: np.ndarray) -> None:
    """Each feature less its class' mean, over its class' standard deviation (of the population), in place.

    Images alone of their class become 0. Sums are in float64. Beside the features there is memory for the largest class
    alone.

    Args:
        features: float32 [n, dim].
        labels: int64 [n].
    """
    _, counts = np.unique(labels, return_counts=True)
    for rows in np.split(np.argsort(labels, kind="stable"), counts.cumsum()[:-1]):
        own = features[rows]
        own -= own.mean(axis=0, dtype=np.float64)
        own /= np.sqrt(np.square(own).mean(axis=0, dtype=np.float64)) + EPSILON
        features[rows] = own
