"""How sure a score is: intervals and paired tests that treat a class, not an image, as the independent unit.

Images of one class stand or fall together, so resampling images would make a score look surer than it is. The index stays as it is: the
interval says what other classes of the same kind would give, not what other distractors would.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

N_RESAMPLES = 2000
N_WEIGHTS = 2**22  # random numbers at a time


@dataclass(frozen=True)
class ClassSums:
    """The queries' values, class by class.

    Attributes:
        total: float64 [n_classes], sum over the class's queries.
        n_queries: int64 [n_classes].
        domain: int64 [n_classes], number of the domain, from 0.
    """

    total: np.ndarray
    n_queries: np.ndarray
    domain: np.ndarray


def class_sums(values: np.ndarray, class_ids: np.ndarray, domains: np.ndarray) -> ClassSums:
    """Sums of the finite values (NaN: no query) by class and domain; a class in two domains counts as two.

    Raises:
        ValueError: no value is finite.
    """
    is_query = np.isfinite(values)
    if not is_query.any():
        raise ValueError("no query has anything relevant in the index")
    _, domain = np.unique(domains[is_query], return_inverse=True)
    _, label = np.unique(class_ids[is_query], return_inverse=True)
    pairs, group = np.unique(domain.astype(np.int64) * (label.max() + 1) + label, return_inverse=True)
    return ClassSums(np.bincount(group, values[is_query]), np.bincount(group), pairs // (label.max() + 1))


def mean_of_domains(values: np.ndarray, domains: np.ndarray) -> tuple[float, dict[str, float]]:
    """The mean over domains, each alike, and each domain's mean over its queries; a domain without a query is left out."""
    is_query = np.isfinite(values)
    by_domain = {str(d): float(values[is_query & (domains == d)].mean()) for d in np.unique(domains[is_query])}
    return (float(np.mean(list(by_domain.values()))) if by_domain else np.nan), by_domain


def class_interval(values: np.ndarray, class_ids: np.ndarray, domains: np.ndarray, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval of the mean over domains: the classes of each domain are drawn again, with replacement.

    Args:
        values: float64 [n_queries], NaN where the image is no query.
        class_ids: int [n_queries].
        domains: [n_queries].
        seed: Of the draws.
        level: Share of the draws between the two ends.

    Returns:
        Both ends (percentiles); equal where no domain has two classes.

    Source: Efron 1979; of clusters: Cameron, Gelbach & Miller 2008.
    """
    sums = class_sums(values, class_ids, domains)
    rng = np.random.default_rng(seed)
    means = np.zeros(N_RESAMPLES)
    n_domains = int(sums.domain.max()) + 1
    for domain in range(n_domains):
        here = sums.domain == domain
        total, n_queries = sums.total[here], sums.n_queries[here].astype(np.float64)
        n = len(total)
        step = max(1, N_WEIGHTS // n)
        for first in range(0, N_RESAMPLES, step):
            drawn = rng.integers(n, size=(min(step, N_RESAMPLES - first), n))
            means[first : first + step] += total[drawn].sum(axis=1) / n_queries[drawn].sum(axis=1) / n_domains
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_p(values: np.ndarray, others: np.ndarray, class_ids: np.ndarray, domains: np.ndarray, seed: int = 0) -> float:
    """Probability of a difference this large, of either sign, if both rows were equally good: the sign of each class's difference is drawn.

    Args:
        values: float64 [n_queries], NaN where the image is no query.
        others: float64 [n_queries], the same queries with the other embeddings.
        class_ids: int [n_queries].
        domains: [n_queries].
        seed: Of the draws.

    Raises:
        ValueError: the two rows have different queries.

    Source: Fisher's randomisation test of matched pairs, with (b + 1) / (n + 1) of Phipson & Smyth 2010.
    """
    if len(values) != len(others) or (np.isfinite(values) != np.isfinite(others)).any():
        raise ValueError("a paired test needs the same queries in both rows")
    sums = class_sums(values - others, class_ids, domains)
    n_of_domain = np.bincount(sums.domain, sums.n_queries)
    share = sums.total / n_of_domain[sums.domain] / len(n_of_domain)  # what the class adds to the difference of the means
    rng = np.random.default_rng(seed)
    observed, n_beyond = abs(share.sum()), 0
    step = max(1, N_WEIGHTS // len(share))
    for first in range(0, 5 * N_RESAMPLES, step):
        signs = rng.integers(2, size=(min(step, 5 * N_RESAMPLES - first), len(share)), dtype=np.int8)
        flipped = share.sum() - 2 * (signs @ share)
        n_beyond += int((np.abs(flipped) >= observed - 1e-12).sum())
    return (n_beyond + 1) / (5 * N_RESAMPLES + 1)
