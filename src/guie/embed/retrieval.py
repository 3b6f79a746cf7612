"""Retrieval in one merged index, scored as the contest's host does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from guie.embed.postprocess import ranked
from guie.settings.embed import PostProcess

K = 5


@dataclass(frozen=True)
class Retrieval:
    """Results of all queries. Each image of a set is a query, and the others are its index.

    Attributes:
        neighbours: int64 [n, 5], rows of the nearest images, nearest first; -1 where the index holds fewer.
        similarities: float32 [n, 5], cosines; with post-processing the similarities that it ranks by.
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


def retrieve(embeddings: np.ndarray, class_ids: np.ndarray, post: PostProcess | None = None) -> Retrieval:
    """Every row queries all other rows. Of equally near images the lower row comes first.

    A query is left out of its own ranking by its row number, not by its rank. On unit vectors the order by cosine is
    the order by Euclidean distance, which the host uses.

    Args:
        embeddings: float [n, dim]; normalised here.
        class_ids: int [n].
        post: What is done to the embeddings or the ranking; None for nothing.

    Raises:
        ValueError: an embedding that is not finite, or fewer than two rows.
    """
    n = len(embeddings)
    if n < 2:
        raise ValueError(f"retrieval needs at least two validation images, there are {n}")
    neighbours, similarities = ranked(embeddings, K, post or PostProcess())
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


def mean_of_domains(values: np.ndarray, domains: np.ndarray) -> tuple[float, dict[str, float]]:
    """The mean over domains with equal weight, and each domain's mean over its queries.

    Args:
        values: float64 [n], NaN where the image is no query.
        domains: [n], the domain of each image.

    Returns:
        The mean, NaN without any query; and the mean of each domain that has a query.
    """
    is_query = np.isfinite(values)
    by_domain = {str(d): float(values[is_query & (domains == d)].mean()) for d in np.unique(domains[is_query])}
    return (float(np.mean(list(by_domain.values()))) if by_domain else np.nan), by_domain


def summarise(retrieval: Retrieval, domains: np.ndarray) -> dict[str, float]:
    """Scores by domain and their mean with equal weight: mp5, r1, mp5_<domain>, r1_<domain>.

    A domain in which no query has anything relevant is left out.

    Raises:
        ValueError: no query has anything relevant.
    """
    scores: dict[str, float] = {}
    for name, values in (("mp5", retrieval.precision), ("r1", retrieval.recall_at_1)):
        scores[name], by_domain = mean_of_domains(values, domains)
        if not by_domain:
            raise ValueError(
                "no validation class has two images, so nothing can be retrieved; raise data.val_class_share"
            )
        scores |= {f"{name}_{domain}": value for domain, value in by_domain.items()}
    return scores
