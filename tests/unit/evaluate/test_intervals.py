"""The bootstrap against all draws of five classes and simulated truth, the paired test against all sign patterns."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from guie.embed.retrieval import mean_of_domains
from guie.evaluate import intervals
from guie.evaluate.intervals import class_interval, class_sums, paired_p


def simulated(rng: np.random.Generator, n_classes: int = 40, n_images: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Hits of images whose chance differs from class to class (mean 1/2)."""
    chance = rng.beta(1, 1, size=n_classes)
    return (rng.random((n_classes, n_images)) < chance[:, None]).astype(float).ravel(), np.repeat(
        np.arange(n_classes), n_images
    )


def test_interval_holds_the_truth_as_often_as_it_says_and_that_of_images_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intervals, "N_RESAMPLES", 400)
    rng = np.random.default_rng(0)
    held = held_by_images = 0
    for _ in range(200):
        values, classes = simulated(rng)
        domains = np.zeros(len(values))
        low, high = class_interval(values, classes, domains)
        held += low <= 0.5 <= high
        low, high = class_interval(values, np.arange(len(values)), domains)
        held_by_images += low <= 0.5 <= high
    assert 0.90 <= held / 200 <= 0.98
    assert held_by_images / 200 < 0.80


@pytest.mark.parametrize("n_images", [[1, 1, 1, 1, 1], [1, 4, 2, 2, 6]])
def test_interval_of_five_classes_equals_all_draws(n_images: list[int]) -> None:
    """All 3,125 draws of five classes of five; ratio and standard error as the textbook has them (Cochran 1977, eq.
    6.10)."""
    rng = np.random.default_rng(1)
    classes = np.repeat(np.arange(5), n_images)
    values = rng.random(len(classes))

    def estimate(drawn: tuple[int, ...]) -> tuple[float, float]:
        totals, sizes = [values[classes == c].sum() for c in drawn], [n_images[c] for c in drawn]
        ratio = sum(totals) / sum(sizes)
        spread = sum((total - ratio * size) ** 2 for total, size in zip(totals, sizes, strict=True)) / 4
        return ratio, np.sqrt(5 * spread) / sum(sizes)

    ratio, error = estimate((0, 1, 2, 3, 4))
    t = []
    for drawn in product(range(5), repeat=5):
        mean, own_error = estimate(drawn)
        t.append((mean - ratio) / own_error if own_error > 1e-12 else np.sign(mean - ratio) * np.inf)
    t.sort()
    low, high = class_interval(values, classes, np.zeros(len(values)), level=0.8, limits=(-9, 9))
    for end, share in (
        (low, 0.9),
        (high, 0.1),
    ):  # 2,000 draws place the quantile to within three standard errors of its share
        bound = 3 * np.sqrt(share * (1 - share) / 2000)
        between = sorted(ratio - t[int((share + side) * len(t))] * error for side in (-bound, bound))
        assert between[0] - 1e-9 <= end <= between[1] + 1e-9


def test_interval_of_domains_of_three_and_four_classes_equals_all_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """All 27 x 256 draws: each domain's variance has its own n / (n - 1), which cancels only where all domains have as
    many classes."""
    scores = [[[0.4, 0.5], [0.6, 0.5, 0.7], [0.45]], [[0.3, 0.5, 0.4], [0.8], [0.5, 0.6], [0.55]]]

    def estimate(classes: list[list[float]]) -> tuple[float, float]:
        n = len(classes)
        n_queries = sum(len(values) for values in classes)
        ratio = sum(sum(values) for values in classes) / n_queries
        return ratio, sum((sum(values) - ratio * len(values)) ** 2 for values in classes) / n_queries**2 * n / (n - 1)

    whole = [estimate(domain) for domain in scores]
    mean, error = sum(ratio for ratio, _ in whole) / 2, np.sqrt(sum(variance for _, variance in whole)) / 2
    draws = [
        [estimate([domain[i] for i in drawn]) for drawn in product(range(len(domain)), repeat=len(domain))]
        for domain in scores
    ]
    t = []
    for (ratio, variance), (other, other_variance) in product(*draws):
        shift, own_error = (ratio + other) / 2 - mean, np.sqrt(variance + other_variance) / 2
        t.append(shift / own_error if own_error > 1e-9 else np.sign(shift) * np.inf if abs(shift) > 1e-12 else 0.0)
    t.sort()
    values = np.concatenate([np.concatenate(domain) for domain in scores])
    classes, domains = np.array([0, 0, 1, 1, 1, 2, 3, 3, 3, 4, 5, 5, 6]), np.repeat([0, 1], [6, 7])
    monkeypatch.setattr(intervals, "N_RESAMPLES", 200_000)
    low, high = class_interval(values, classes, domains, level=0.9)
    for end, share in ((low, 0.95), (high, 0.05)):
        bound = 3 * np.sqrt(share * (1 - share) / 200_000)
        between = sorted(mean - t[int((share + side) * len(t))] * error for side in (-bound, bound))
        assert between[0] - 1e-9 <= end <= between[1] + 1e-9


@pytest.mark.parametrize(("n_domains", "n_classes", "floor"), [(4, 3, 0.90), (4, 9, 0.91), (1, 12, 0.91)])
def test_interval_of_few_classes_holds_the_truth(
    n_domains: int, n_classes: int, floor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The percentiles of the means hold it in 81, 91 and 87 % of the cases."""
    monkeypatch.setattr(intervals, "N_RESAMPLES", 300)
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(250):
        chance = np.repeat(
            rng.beta(1.6, 0.4, size=n_domains * n_classes), 8
        )  # mean .8, and the images of a class go together
        classes = np.repeat(np.arange(n_domains * n_classes), 8)
        low, high = class_interval((rng.random(len(chance)) < chance).astype(float), classes, classes % n_domains)
        held += low <= 0.8 <= high
    assert floor <= held / 250 <= 0.996


def test_interval_of_more_classes_than_units_is_that_of_the_normal_distribution() -> None:
    rng = np.random.default_rng(8)
    values, classes = rng.random(9000), np.repeat(np.arange(3000), 3)
    low, high = class_interval(values, classes, np.zeros(9000))
    deviation = values.reshape(3000, 3).mean(axis=1).std(ddof=1) / np.sqrt(3000)
    assert (low, high) == pytest.approx(
        (values.mean() - 1.96 * deviation, values.mean() + 1.96 * deviation), abs=0.2 * deviation
    )


def test_single_class_of_a_domain_tells_no_spread() -> None:
    assert np.isnan(
        class_interval(np.array([0.5, 0.2, 0.1, 1.0]), np.array([0, 1, 2, 2]), np.array(["a", "a", "b", "b"]))
    ).all()


def test_interval_stays_within_the_metric() -> None:
    low, high = class_interval(np.array([1.0, 1.0, 0.2]), np.arange(3), np.zeros(3))
    assert 0 <= low < 0.73 < high <= 1.0


def test_interval_of_two_domains_adds_their_variances() -> None:
    rng = np.random.default_rng(2)
    values, classes = rng.normal(size=400), np.arange(400)
    domains = np.array(["large"] * 360 + ["small"] * 40)
    low, high = class_interval(values, classes, domains, limits=(-9, 9))
    deviation = np.sqrt(values[:360].var() / 360 + values[360:].var() / 40) / 2
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.1)
    assert low < mean_of_domains(values, domains)[0] < high


def test_interval_of_equal_values_is_a_point() -> None:
    values, domains = np.array([0.5, np.nan, 0.5, 0.5, 0.1, 0.1]), np.array(["a", "a", "a", "a", "b", "b"])
    assert class_interval(values, np.arange(6), domains) == pytest.approx((0.3, 0.3))


def test_queries_that_are_none_do_not_count() -> None:
    values, classes, domains = np.array([1.0, 0.0, np.nan, 1.0]), np.array([7, 7, 8, 7]), np.array(["a", "a", "a", "b"])
    sums = class_sums(values, classes, domains)  # class 7 of domain a and of b are two
    assert (sums.total.tolist(), sums.n_queries.tolist(), sums.domain.tolist()) == ([1.0, 1.0], [2, 1], [0, 1])
    assert mean_of_domains(values, domains) == (0.75, {"a": 0.5, "b": 1.0})
    with pytest.raises(ValueError, match="anything relevant"):
        class_sums(np.array([np.nan]), np.array([0]), np.array(["a"]))


def test_paired_p_equals_all_sign_patterns() -> None:
    rng = np.random.default_rng(3)
    classes = np.repeat(np.arange(9), [2, 5, 1, 3, 4, 4, 2, 6, 3])
    domains = np.where(classes < 4, "a", "b")
    values, others = rng.random(30), rng.random(30)
    sums = [(values - others)[classes == c].sum() / (domains == ("a" if c < 4 else "b")).sum() / 2 for c in range(9)]
    observed = abs(sum(sums))
    assert observed == pytest.approx(abs(mean_of_domains(values, domains)[0] - mean_of_domains(others, domains)[0]))
    exact = np.mean([abs(np.dot(signs, sums)) >= observed - 1e-12 for signs in product((-1, 1), repeat=9)])
    assert 0.05 < exact < 0.95
    assert paired_p(values, others, classes, domains) == pytest.approx(exact, abs=0.015)
    assert paired_p(others, values, classes, domains) == pytest.approx(exact, abs=0.015)


def test_paired_p_equals_scipy() -> None:
    rng = np.random.default_rng(4)
    values = rng.random(60)
    others = values - 0.03 + 0.1 * rng.normal(size=60)

    def mean_difference(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return (x - y).mean(axis=axis)

    expected = stats.permutation_test(
        (values, others),
        mean_difference,
        permutation_type="samples",
        vectorized=True,
        n_resamples=9999,
        rng=np.random.default_rng(0),
    )
    assert paired_p(values, others, np.arange(60), np.zeros(60)) == pytest.approx(expected.pvalue, abs=0.01)


def test_paired_p_of_the_same_row_is_one_and_of_a_clear_gain_small() -> None:
    values = np.random.default_rng(5).random(50)
    classes, domains = np.arange(50) // 2, np.zeros(50)
    assert paired_p(values, values, classes, domains) == 1.0
    assert paired_p(values + 0.1, values, classes, domains) < 0.001


def test_paired_p_cries_wolf_no_more_often_than_it_says() -> None:
    rng = np.random.default_rng(6)
    p = []
    for _ in range(150):  # two models that are equally good on average, and differ class by class
        shift = np.repeat(0.3 * rng.normal(size=30), 8)
        base, classes = rng.random(240), np.repeat(np.arange(30), 8)
        p.append(paired_p(base + shift, base, classes, np.zeros(240)))
    assert np.mean(np.array(p) < 0.05) < 0.10
    assert np.mean(np.array(p) < 0.5) == pytest.approx(0.5, abs=0.13)


def test_paired_p_of_other_queries_is_refused() -> None:
    with pytest.raises(ValueError, match="same queries"):
        paired_p(np.array([1.0, np.nan]), np.array([1.0, 0.0]), np.array([0, 1]), np.zeros(2))
    with pytest.raises(ValueError, match="same queries"):
        paired_p(np.ones(2), np.ones(3), np.array([0, 1]), np.zeros(2))
