"""Measures of embeddings without queries: the density of classes, the directions in use, and the evenness on the
sphere.

Distances of all pairs are summed block by block; no matrix of all pairs is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import faiss
import numpy as np
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

from guie.embed.search import l2_normalised

PAIR_BLOCK = 4096  # rows on each side of a block of pairs: 64 MB


def geometry(embeddings: np.ndarray, class_ids: np.ndarray) -> dict[str, float]:
    """density_intra, density_inter, density, spectral_decay, alignment and uniformity of embeddings, float [n, dim],
    normalised here.

    Images of no class (negative class_id) count for spectral_decay and uniformity only.
    """
    unit = l2_normalised(embeddings)
    intra, inter = density(unit, class_ids)
    scores = {"density_intra": intra, "density_inter": inter, "density": intra / inter if inter else np.nan}
    return scores | {
        "spectral_decay": spectral_decay(unit),
        "alignment": alignment(unit, class_ids),
        "uniformity": uniformity(unit),
    }


def density(embeddings: np.ndarray, class_ids: np.ndarray) -> tuple[float, float]:
    """Mean distance within classes, and between the mean embeddings of classes; their ratio is the embedding density.

    Args:
        embeddings: float [n, dim].
        class_ids: int [n]; negative ones are left out.

    Returns:
        The mean over classes of at least two images of their mean pairwise distance, and the mean pairwise distance of
        all class means; NaN where there is no pair.

    Raises:
        ValueError: no image has a class.

    Source: Roth et al. 2020, Revisiting Training Strategies, section 5, pi_intra and pi_inter.
    """
    intra, means = [], []
    for rows in _classes(class_ids):
        members = np.asarray(embeddings[rows], dtype=np.float64)
        means.append(members.mean(axis=0))
        if len(rows) > 1:
            intra.append(_mean_of_pairs(members, np.sqrt))
    if not means:
        raise ValueError("no image has a class")
    inter = _mean_of_pairs(np.stack(means), np.sqrt) if len(means) > 1 else np.nan
    return float(np.mean(intra)) if intra else np.nan, inter


def spectral_decay(embeddings: np.ndarray) -> float:
    """rho: Kullback-Leibler divergence KL(U || S) of the uniform distribution U and the singular values S, scaled to
    sum 1.

    It is 0 if all directions are used alike, and infinite if one is not used at all. The embeddings, float [n, dim],
    are not centred, and none of the singular values is left out.

    Source: Roth et al. 2020, section 5, rho(Phi) = KL(U || S_Phi).
    """
    triangle = np.empty((0, embeddings.shape[1]))
    for first in range(0, len(embeddings), PAIR_BLOCK):  # QR of stacked QRs: the same singular values, block by block
        triangle = np.asarray(
            np.linalg.qr(np.concatenate([triangle, embeddings[first : first + PAIR_BLOCK]]), mode="r")
        )
    values = np.zeros(embeddings.shape[1])
    found = np.linalg.svd(triangle, compute_uv=False)
    values[: len(found)] = np.where(found > found[0] * 1e-12, found, 0)
    with np.errstate(divide="ignore"):
        return float(-np.log(len(values)) - np.log(values / values.sum()).mean())


def alignment(embeddings: np.ndarray, class_ids: np.ndarray) -> float:
    """Mean squared distance over all pairs of images of one class, each pair with the same weight; NaN without a pair.

    It needs sums only: over the pairs of n vectors, sum |x - y|^2 = n * sum |x|^2 - |sum x|^2.

    Source: Wang & Isola 2020, alpha = 2.
    """
    total, n_pairs = 0.0, 0
    for rows in _classes(class_ids):
        members = np.asarray(embeddings[rows], dtype=np.float64)
        members = members - members[0]  # the same distances, without cancellation of large numbers
        total += len(rows) * float((members**2).sum()) - float((members.sum(axis=0) ** 2).sum())
        n_pairs += len(rows) * (len(rows) - 1) // 2
    return total / n_pairs if n_pairs else np.nan


def uniformity(embeddings: np.ndarray, t: float = 2.0) -> float:
    """Logarithm of the mean of exp(-t |x - y|^2) over all pairs of images; lower is more even.

    Source: Wang & Isola 2020.
    """
    return (
        float(np.log(_mean_of_pairs(np.asarray(embeddings), lambda squared: np.exp(-t * squared))))
        if len(embeddings) > 1
        else np.nan
    )


def clusters(embeddings: np.ndarray, class_ids: np.ndarray, seed: int = 0) -> dict[str, float]:
    """nmi and ami between the classes and as many k-means clusters of the normalised embeddings. Images of no class are
    left out.

    The time of ami grows with the square of the number of classes: 2 s for 500, minutes for some thousands.
    """
    labels, found = k_means_clusters(embeddings, class_ids, seed)
    return {
        "nmi": float(normalized_mutual_info_score(labels, found)),
        "ami": float(adjusted_mutual_info_score(labels, found)),
    }


def k_means_clusters(embeddings: np.ndarray, class_ids: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The classes, and the numbers of as many k-means clusters of the normalised embeddings, int64 [n_known] both.

    Images of no class are left out.
    """
    is_known = class_ids >= 0
    unit = l2_normalised(embeddings[is_known])
    labels = class_ids[is_known]
    n_classes = len(np.unique(labels))
    # trained on all images: by default faiss takes at most 256 a cluster, and warns below 39
    k_means = faiss.Kmeans(
        unit.shape[1], n_classes, niter=25, seed=seed, min_points_per_centroid=1, max_points_per_centroid=len(unit)
    )
    k_means.train(unit)
    _, found = k_means.index.search(unit, 1)
    return labels, found[:, 0]


def _classes(class_ids: np.ndarray) -> Iterator[np.ndarray]:
    """The row numbers of each class."""
    order = np.argsort(class_ids, kind="stable")
    order = order[class_ids[order] >= 0]
    bounds = np.flatnonzero(np.diff(class_ids[order])) + 1
    return iter(np.split(order, bounds)) if len(order) else iter(())


def _mean_of_pairs(rows: np.ndarray, of_squared: Callable[[np.ndarray], np.ndarray]) -> float:
    """Mean of a function of the squared distance over all unordered pairs of rows."""
    n, total = len(rows), 0.0
    lengths = (rows**2).sum(axis=1)
    for a in range(0, n, PAIR_BLOCK):
        for b in range(a, n, PAIR_BLOCK):
            squared = (
                lengths[a : a + PAIR_BLOCK, None]
                + lengths[None, b : b + PAIR_BLOCK]
                - 2 * rows[a : a + PAIR_BLOCK] @ rows[b : b + PAIR_BLOCK].T
            )
            values = of_squared(np.maximum(squared, 0))
            total += float(np.triu(values, 1).sum(dtype=np.float64)) if a == b else float(values.sum(dtype=np.float64))
    return total / (n * (n - 1) / 2)
