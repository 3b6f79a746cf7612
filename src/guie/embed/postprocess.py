"""Post-processing of finished embeddings, without labels. Power and length change each embedding alone. Query
expansion, database augmentation and re-ranking use the neighbours in the index.

Every image is both a query and an index image. A query must not influence its own index, because that would raise its
score. So a query is removed from its own ranking, and an index image that would be augmented with the query is
augmented with its next neighbour instead. Re-ranking does use whether the query is among an index image's neighbours,
as it would for a query from outside the index.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from guie.embed.search import Vectors, l2_normalised, search, vectors
from guie.settings.embed import PostProcess
from guie.shown import progress

SHORTLIST = 100  # index images per query that augmentation re-scores: the nearest before augmentation
N_NUMBERS = 2**23  # float32 numbers at a time: 32 MB


def power_normalised(embeddings: np.ndarray, power: float) -> np.ndarray:
    """sign(x) |x| ** power, then L2-normalised; float32 [n, dim] in and out. A power below 1 weakens the largest
    dimensions.

    Source: Perronnin, Sanchez and Mensink, ECCV 2010.
    """
    embeddings = np.asarray(embeddings, dtype=np.float32)
    return l2_normalised(np.sign(embeddings) * np.abs(embeddings) ** np.float32(power))


def length_mixed(embeddings: np.ndarray, mix: float, typical: float) -> np.ndarray:
    """(1 - mix) x / |x| + mix x / typical, float32 [n, dim] in and out: unit vectors for mix 0, original lengths for
    mix 1.

    It changes Euclidean distances: a long embedding is then further from all others.

    Args:
        embeddings: float [n, dim].
        mix: 0 to 1.
        typical: A typical length of embeddings, such as their mean length.

    Source: the inference strategies described by Elezi et al., The Group Loss++, TPAMI 2022; the formula is ours.
    """
    return (1.0 - mix) * l2_normalised(embeddings) + np.float32(mix / max(typical, 1e-12)) * np.asarray(
        embeddings, dtype=np.float32
    )


def ranked(embeddings: np.ndarray, k: int, post: PostProcess) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest other images of each image, after post-processing.

    Args:
        embeddings: float [n, dim].
        k: Number of neighbours.
        post: The post-processing.

    Returns:
        Rows, int64 [n, k], -1 where there are fewer; and the similarities that they are ranked by, float32 [n, k].
    """
    index = vectors(embeddings, "euclidean" if post.length_mix else "cosine")
    if post.rerank_k1:
        return _reranked(l2_normalised(embeddings), k, post)
    if post.n_expanded or post.n_augmented:
        return _by_neighbours(l2_normalised(embeddings), index, k, post)
    return search(embeddings, index, k, own_rows=np.arange(len(embeddings)))


def _by_neighbours(unit: np.ndarray, index: Vectors, k: int, post: PostProcess) -> tuple[np.ndarray, np.ndarray]:
    """As `ranked`, with queries expanded and index images augmented by their neighbours.

    Args:
        unit: float32 [n, dim], of length one.
        index: The embeddings.
        k: Number of neighbours to return.
        post: Number of neighbours for expansion and augmentation, and their weights.
    """
    own = np.arange(len(unit))
    near, cosines = search(unit, index, max(post.n_expanded, post.n_augmented + 1), own_rows=own)
    weights = _weights(near, cosines, post)
    n_listed = post.n_augmented + 1 if post.n_augmented else 0
    lists = (near[:, :n_listed], weights[:, :n_listed])
    queries = unit
    if post.n_expanded:
        queries = _expanded(unit, near[:, : post.n_expanded], weights[:, : post.n_expanded], lists)
    if not post.n_augmented:
        return search(queries, index, k, own_rows=own)
    shortlist, _ = search(queries, index, max(k, SHORTLIST), own_rows=own)
    similarities = np.empty(shortlist.shape, dtype=np.float32)
    for part in _parts(len(unit), shortlist.shape[1] * n_listed * unit.shape[1]):
        found = _augmented(unit, lists, shortlist[part], own[part])
        similarities[part] = np.einsum("nd,ncd->nc", queries[part], found)
    return _first(k, shortlist, np.where(shortlist >= 0, similarities, -np.inf))


def _weights(near: np.ndarray, cosines: np.ndarray, post: PostProcess) -> np.ndarray:
    """cosine ** alpha of each neighbour, float32 [n, k]; 0 for a negative cosine and for a missing neighbour (-1)."""
    return np.where(near >= 0, np.clip(cosines, 0.0, None) ** np.float32(post.alpha), 0.0).astype(np.float32)


def _expanded(
    unit: np.ndarray, near: np.ndarray, weights: np.ndarray, lists: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Queries plus their weighted neighbours, L2-normalised, float32 [n, dim]. The neighbours are augmented as in the
    index.

    Source: Chum et al., ICCV 2007 (the average, alpha 0); Radenovic, Tolias and Chum, TPAMI 2019 (cosine ** alpha).
    """
    expanded = unit.copy()
    for part in _parts(len(unit), near.shape[1] * (lists[0].shape[1] + 1) * unit.shape[1]):
        expanded[part] += np.einsum(
            "nc,ncd->nd", weights[part], _augmented(unit, lists, near[part], np.arange(len(unit))[part])
        )
    return l2_normalised(expanded)


def _augmented(
    unit: np.ndarray, lists: tuple[np.ndarray, np.ndarray], rows: np.ndarray, queries: np.ndarray
) -> np.ndarray:
    """Augmented index images, float32 [n, c, dim]: each plus its weighted neighbours, without the query.

    Args:
        unit: float32 [n_images, dim].
        lists: Each image's m + 1 nearest and their weights, [n_images, m + 1]. The last one is used only if the query
            is among the first m.
        rows: int64 [n, c], index images of each query.
        queries: int64 [n], rows of the queries.

    Source: Turcot and Lowe, ICCV workshops 2009; weights as Gordo et al., IJCV 2017.
    """
    near, weights = lists[0][rows], lists[1][rows]
    if not near.shape[-1]:
        return unit[rows]
    is_other = near != queries[:, None, None]
    is_used = is_other & (is_other.cumsum(axis=-1) < near.shape[-1])
    total = unit[rows] + np.einsum("ncm,ncmd->ncd", weights * is_used, unit[near])
    return total / np.maximum(np.linalg.norm(total, axis=-1, keepdims=True), 1e-12)


def _reranked(unit: np.ndarray, k: int, post: PostProcess) -> tuple[np.ndarray, np.ndarray]:
    """k-reciprocal re-ranking with sparse rows instead of a matrix of all pairs; distances are 1 - cosine.

    Source: Zhong, Zheng, Cao and Li, CVPR 2017, equations 3 to 12.
    """
    n = len(unit)
    k1 = min(post.rerank_k1, n - 1)
    near = _nearest_after_itself(unit, min(max(k1, k), n - 1))
    encoded = _local_mean(_encoded(unit, near[:, : k1 + 1]), near[:, : min(post.rerank_k2, k1 + 1)])
    columns = encoded.tocsc()
    rows = np.full((n, k), -1, dtype=np.int64)
    similarities = np.full((n, k), -np.inf, dtype=np.float32)
    for i in progress(range(n), desc="re-ranking", delay=3):
        candidates, jaccard = _jaccard(encoded, columns, i, near[i, 1 : k + 1])
        cosine = unit[candidates].astype(np.float64) @ unit[i]
        distance = (1.0 - post.rerank_weight) * jaccard + post.rerank_weight * (1.0 - cosine)
        order = np.lexsort((candidates, distance))[:k]
        rows[i, : len(order)] = candidates[order]
        similarities[i, : len(order)] = 1.0 - distance[order]
    return rows, similarities


def _nearest_after_itself(unit: np.ndarray, k: int) -> np.ndarray:
    """Each image and its k nearest, int64 [n, k + 1]: in re-ranking an image is its own first neighbour."""
    own = np.arange(len(unit))
    near, _ = search(unit, vectors(unit), k, own_rows=own)
    return np.concatenate([own[:, None], near], axis=1)


def _jaccard(
    encoded: sparse.csr_array, columns: sparse.csc_array, i: int, nearest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Candidates for the ranking of image i, and their Jaccard distances to it.

    Args:
        encoded: Each image's neighbourhood, [n, n], rows that add up to 1.
        columns: The same matrix by columns.
        i: The image.
        nearest: int64, images that are candidates even if they share nothing.

    Returns:
        Images, int64 [n_candidates], ascending, without i; and Jaccard distances, float64 [n_candidates], 1 where
        nothing is shared.
    """
    found, shared = _shared(encoded, columns, i)
    candidates = np.union1d(found, nearest)
    candidates = candidates[candidates != i]
    minima = np.zeros(len(candidates))
    minima[np.isin(candidates, found)] = shared[np.isin(found, candidates)]
    return candidates, 1.0 - minima / (2.0 - minima)


def _encoded(unit: np.ndarray, near: np.ndarray) -> sparse.csr_array:
    """Each image's neighbourhood as weights that add up to 1, [n, n].

    It holds the image's k-reciprocal neighbours. The k/2-reciprocal neighbours of each of these are added if more than
    two thirds of them are already in it.
    """
    half = near[:, : round((near.shape[1] - 1) / 2) + 1]
    sets, halves = _reciprocal(near), _reciprocal(half)
    starts, columns, values = [0], [], []
    for i in progress(range(len(unit)), desc="neighbourhoods", delay=3):
        members = [sets[i]]
        for j in sets[i]:
            if len(np.intersect1d(halves[j], sets[i], assume_unique=True)) > 2 / 3 * len(halves[j]):
                members.append(halves[j])
        row = np.unique(np.concatenate(members))
        weights = np.exp(unit[row].astype(np.float64) @ unit[i] - 1.0)
        columns.append(row)
        values.append(weights / weights.sum())
        starts.append(starts[-1] + len(row))
    return sparse.csr_array(
        (np.concatenate(values), np.concatenate(columns), np.array(starts)), shape=(len(unit), len(unit))
    )


def _reciprocal(near: np.ndarray) -> list[np.ndarray]:
    """For each image: the image itself and its reciprocal neighbours, which have the image among their own
    neighbours."""
    sets: list[np.ndarray] = []
    for part in _parts(len(near), near.shape[1] ** 2):
        is_mutual = (near[near[part]] == np.arange(len(near))[part, None, None]).any(axis=2)
        sets += [row[keep] for row, keep in zip(near[part], is_mutual, strict=True)]
    return sets


def _local_mean(encoded: sparse.csr_array, near: np.ndarray) -> sparse.csr_array:
    """Replaces each row by the mean of the rows of its nearest images, its own row included."""
    n, k = near.shape
    mean = sparse.csr_array((np.full(n * k, 1.0 / k), near.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
    return (mean @ encoded).tocsr()


def _shared(encoded: sparse.csr_array, columns: sparse.csc_array, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Images that share a neighbour with image i; and for each, the sum over shared neighbours of the smaller
    weight."""
    own = slice(encoded.indptr[i], encoded.indptr[i + 1])
    others, smaller = [], []
    for column, value in zip(encoded.indices[own], encoded.data[own], strict=True):
        here = slice(columns.indptr[column], columns.indptr[column + 1])
        others.append(columns.indices[here])
        smaller.append(np.minimum(columns.data[here], value))
    found, place = np.unique(np.concatenate(others), return_inverse=True)
    return found, np.bincount(place, weights=np.concatenate(smaller))


def _first(k: int, rows: np.ndarray, similarities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar of each row of candidates; of equally similar ones the lower row number comes first."""
    order = np.lexsort((rows, -similarities), axis=-1)[:, :k]
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(similarities, order, axis=1)


def _parts(n: int, n_each: int) -> list[slice]:
    """Slices of n rows that hold at most N_NUMBERS numbers each, with `n_each` numbers per row."""
    step = max(1, N_NUMBERS // max(1, n_each))
    return [slice(first, first + step) for first in range(0, n, step)]
