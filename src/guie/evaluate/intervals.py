"""Confidence intervals and paired tests of scores. The independent unit is the class, not the image.

Images of one class tend to be right or wrong together, so resampling images would give intervals that are too narrow.
The index is not resampled: the interval covers other classes of the same kind, not other distractors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

N_RESAMPLES = 2000
NO_INTERVAL = "no interval: a domain has a single class, so the spread between its classes is unknown"
# Classes of a domain that are drawn one by one. More are drawn in groups: one by one, the interval of 200,000 classes
# took half a minute.
N_UNITS = 2048
N_WEIGHTS = 2**20  # random numbers at a time, each with the five sums of a class: 40 MB


@dataclass(frozen=True)
class ClassSums:
    """Sums of the queries' values by class.

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


def class_interval(
    values: np.ndarray,
    class_ids: np.ndarray,
    domains: np.ndarray,
    seed: int = 0,
    level: float = 0.95,
    limits: tuple[float, float] = (0.0, 1.0),
) -> tuple[float, float]:
    """Bootstrap-t interval of the mean over domains. The classes of each domain are resampled with replacement.

    The deviation of each resampled mean is divided by the standard error of the same resample. Percentiles of the means
    leave the standard error out, and they contain the true mean too seldom where domains have few classes.
    tests/benchmarks/coverage.md has measurements of both: bootstrap-t contains the true mean in 94 to 98 % of cases
    from three classes a domain on, but in 87 % where three classes hold nearly all queries of a domain.

    Args:
        values: float64 [n_queries], NaN where the image is no query.
        class_ids: int [n_queries].
        domains: [n_queries].
        seed: Of the resampling.
        level: Share of the resamples between the two ends.
        limits: Range of the metric; an end outside of it is moved to its border.

    Returns:
        Both ends. They are NaN where a domain has a single class, because its spread is unknown. They are the mean
        twice where the classes of each domain have equal values.

    Source: Efron 1979; bootstrap-t: Efron & Tibshirani 1993, section 12.5; of clusters: Cameron, Gelbach & Miller 2008;
    variance of a ratio of sums: Cochran 1977, section 6.3.
    """
    sums = class_sums(values, class_ids, domains)
    if np.bincount(sums.domain).min() < 2:
        return np.nan, np.nan
    estimate = _Mean.of(sums, np.random.default_rng(seed))
    low, high = np.quantile(estimate.t(), [(1 + level) / 2, (1 - level) / 2], method="nearest")
    error = np.sqrt(estimate.variance)
    if error < 1e-12:
        return estimate.mean, estimate.mean
    low_end = np.clip(estimate.mean - low * error, *limits)
    high_end = np.clip(estimate.mean - high * error, *limits)
    return float(low_end), float(high_end)


def _grouped(total: np.ndarray, n_queries: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Totals and counts of at most N_UNITS units. More classes than that are grouped at random; the groups are as
    independent and give about the same variance of the mean."""
    if len(total) <= N_UNITS:
        return total, n_queries.astype(np.float64)
    unit = rng.permutation(len(total)) % N_UNITS
    return np.bincount(unit, total), np.bincount(unit, n_queries)


@dataclass(frozen=True)
class _Ratio:
    """The mean over a domain's queries, as a ratio of sums over its classes.

    Attributes:
        terms: float64 [n_classes, 5]: residual e = total - ratio * n, n, e^2, e n, n^2.
        ratio: Sum of totals over sum of n.
        variance: Of the ratio, by linearisation.
    """

    terms: np.ndarray
    ratio: float
    variance: float

    @classmethod
    def of(cls, total: np.ndarray, n_queries: np.ndarray) -> _Ratio:
        ratio = float(total.sum() / n_queries.sum())
        rest = total - ratio * n_queries
        terms = np.stack([rest, n_queries, rest**2, rest * n_queries, n_queries**2], axis=1)
        return cls(terms, ratio, float(_shift_and_variance(terms.sum(axis=0), len(total))[1]))

    def drawn(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """For each resample of the classes, float64 [N_RESAMPLES]: its ratio minus this one, and the variance of its
        ratio."""
        n = len(self.terms)
        step = max(1, N_WEIGHTS // n)
        sums = [
            self.terms[rng.integers(n, size=(min(step, N_RESAMPLES - first), n))].sum(axis=1)
            for first in range(0, N_RESAMPLES, step)
        ]
        return _shift_and_variance(np.concatenate(sums), n)


@dataclass(frozen=True)
class _Mean:
    """The mean over domains, and its resamples.

    Attributes:
        mean: Of the domains' ratios.
        variance: Of the mean.
        shifts: float64 [N_RESAMPLES], the mean of each resample minus this one.
        variances: float64 [N_RESAMPLES], variance of the mean of each resample.
    """

    mean: float
    variance: float
    shifts: np.ndarray
    variances: np.ndarray

    @classmethod
    def of(cls, sums: ClassSums, rng: np.random.Generator) -> _Mean:
        """Resamples the classes of one domain after the other. Each domain must have at least two."""
        n_domains = int(sums.domain.max()) + 1
        mean = 0.0
        variance = 0.0
        shifts = np.zeros(N_RESAMPLES)
        variances = np.zeros(N_RESAMPLES)
        for domain in range(n_domains):
            here = sums.domain == domain
            estimate = _Ratio.of(*_grouped(sums.total[here], sums.n_queries[here], rng))
            drawn_shifts, drawn_variances = estimate.drawn(rng)
            mean += estimate.ratio / n_domains
            variance += estimate.variance / n_domains**2
            shifts += drawn_shifts / n_domains
            variances += drawn_variances / n_domains**2
        return cls(mean, variance, shifts, variances)

    def t(self) -> np.ndarray:
        """The shift of each resample divided by its own standard error, float64 [N_RESAMPLES].

        It is infinite where the classes of a resample are equal, because their spread is 0.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(np.abs(self.shifts) < 1e-12, 0.0, self.shifts / np.sqrt(self.variances))


def _shift_and_variance(sums: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """From sums of a `_Ratio`'s terms, float64 [..., 5]: the ratio of the sums minus the original one, and its
    variance."""
    rest, n, squares, products, n_squares = np.moveaxis(sums, -1, 0)
    shift = rest / n
    variance = np.maximum(squares - 2 * shift * products + shift**2 * n_squares, 0) * n_classes / (n_classes - 1) / n**2
    return shift, variance


def paired_p(
    values: np.ndarray, others: np.ndarray, class_ids: np.ndarray, domains: np.ndarray, seed: int = 0
) -> float:
    """Two-sided p-value of a paired test: the probability of a difference this large if both rows were equally good.

    The sign of each class's difference is drawn at random. The test says whether the difference holds for other classes
    of the same kind, with these weights. It says nothing about other training runs.

    Args:
        values: float64 [n_queries], NaN where the image is no query.
        others: float64 [n_queries], the same queries with the other embeddings.
        class_ids: int [n_queries].
        domains: [n_queries].
        seed: Of the drawn signs.

    Raises:
        ValueError: the two rows have different queries.

    Source: Fisher's randomisation test of matched pairs, with (b + 1) / (n + 1) of Phipson & Smyth 2010.
    """
    if len(values) != len(others) or (np.isfinite(values) != np.isfinite(others)).any():
        raise ValueError("a paired test needs the same queries in both rows")
    sums = class_sums(values - others, class_ids, domains)
    n_of_domain = np.bincount(sums.domain, sums.n_queries)
    share = sums.total / n_of_domain[sums.domain] / len(n_of_domain)  # of each class in the difference of the means
    rng = np.random.default_rng(seed)
    observed, n_beyond = abs(share.sum()), 0
    step = max(1, N_WEIGHTS // len(share))
    for first in range(0, 5 * N_RESAMPLES, step):
        signs = rng.integers(2, size=(min(step, 5 * N_RESAMPLES - first), len(share)), dtype=np.int8)
        flipped = share.sum() - 2 * (signs @ share)
        n_beyond += int((np.abs(flipped) >= observed - 1e-12).sum())
    return (n_beyond + 1) / (5 * N_RESAMPLES + 1)
