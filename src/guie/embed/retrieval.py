"""Retrieval in one merged index, scored as the contest's host does."""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np

K = 5


@dataclass(frozen=True)
class Retrieval:
    """What every query found; each image of one set is a query, the others are the index.

    Attributes:
        neighbours: int64 [n, 5], rows of the nearest images, nearest first; -1 where the index holds fewer.
        similarities: float32 [n, 5], cosines.
        is_correct: bool [n, 5], whether the neighbour has the query's class.
        n_relevant: int64 [n], other images of the query's class.
        precision: float64 [n], the host's precision; NaN where nothing is relevant.
        recall_at_1: float64 [n], 1 if the nearest has the query's class; NaN where nothing is relevant.
    """

    neighbours: np.ndarray
    similarities: np.ndarray
    is_correct: np.ndarray
    n_relevant: np.ndarray
    precision: np.ndarray
    recall_at_1: np.ndarray


def l2_normalised(vectors: np.ndarray) -> np.ndarray:
    """float32 [n, dim], each row divided by its length (zero rows stay zero)."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def retrieve(embeddings: np.ndarray, class_ids: np.ndarray) -> Retrieval:
    """Every row queries all others; the row itself is left out by its number, not by its rank.

    On unit vectors the order by cosine is the order by Euclidean distance, which the host uses.

    Args:
        embeddings: float [n, dim]; normalised here.
        class_ids: int [n].

    Raises:
        ValueError: an embedding that is not finite, or fewer than two rows.
    """
    n = len(embeddings)
    if n < 2:
        raise ValueError(f"retrieval needs at least two validation images, there are {n}")
    if not np.isfinite(embeddings).all():
        raise ValueError("an embedding is not finite; the stage it comes from has diverged: lower its lr")
    vectors = l2_normalised(embeddings)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    similarities, found = index.search(vectors, min(K + 1, n))
    neighbours, similarities = _without_self(found, similarities)
    _, dense, counts = np.unique(class_ids, return_inverse=True, return_counts=True)
    is_correct = (neighbours >= 0) & (dense[neighbours] == dense[:, None])
    n_relevant = counts[dense] - 1
    precision = host_precision(is_correct, n_relevant)
    recall = np.where(n_relevant > 0, is_correct[:, 0], np.nan)
    return Retrieval(neighbours, similarities, is_correct, n_relevant, precision, recall)


def host_precision(is_correct: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    """The contest's precision of each query: hits among the first m = min(n_relevant, 5) ranks, divided by m.

    Only those m ranks count: with two relevant images, hits at ranks 1 and 5 give 1/2, not 1.

    Args:
        is_correct: bool [n, 5].
        n_relevant: int [n].

    Returns:
        float64 [n]; NaN where n_relevant is 0.

    Source: google-research/universal_embedding_challenge, metrics.py.
    """
    m = np.minimum(n_relevant, K)
    counted = np.arange(is_correct.shape[1])[None, :] < m[:, None]
    return np.where(m > 0, (is_correct & counted).sum(axis=1) / np.maximum(m, 1), np.nan)


def summarise(retrieval: Retrieval, domains: np.ndarray) -> dict[str, float]:
    """Scores by domain and their mean with equal weight: mp5, r1, mp5_<domain>, r1_<domain>.

    A domain in which no query has anything relevant is left out.
    """
    scores: dict[str, float] = {}
    for name, values in (("mp5", retrieval.precision), ("r1", retrieval.recall_at_1)):
        by_domain = {str(d): float(np.nanmean(values[domains == d])) for d in np.unique(domains) if np.isfinite(values[domains == d]).any()}
        if not by_domain:
            raise ValueError("no validation class has two images, so nothing can be retrieved; raise data.val_class_share")
        scores[name] = float(np.mean(list(by_domain.values())))
        scores |= {f"{name}_{domain}": value for domain, value in by_domain.items()}
    return scores


def _without_self(found: np.ndarray, similarities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first five of each row that are not the row itself, padded with -1 where there are fewer."""
    is_other = found != np.arange(len(found))[:, None]
    order = np.argsort(~is_other, axis=1, kind="stable")[:, :K]
    is_kept = np.take_along_axis(is_other, order, axis=1)
    kept = np.where(is_kept, np.take_along_axis(found, order, axis=1), -1)
    sims = np.where(is_kept, np.take_along_axis(similarities, order, axis=1), -np.inf)
    pad = K - kept.shape[1]
    return np.pad(kept, ((0, 0), (0, pad)), constant_values=-1), np.pad(sims, ((0, 0), (0, pad)), constant_values=-np.inf).astype(np.float32)
