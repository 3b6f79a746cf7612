"""The metrics against fractions computed by hand, naive loops, pytorch-metric-learning and scikit-learn."""

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from sklearn.metrics import average_precision_score

from guie.embed.retrieval import retrieve
from guie.embed.search import l2_normalised, vectors
from guie.evaluate.metrics import DEPTH, FULL_METRICS, METRICS, full_map, recall_at
from guie.evaluate.ranks import ByLabel, ByPair, Ranks, all_ranks, ranks_within


def ranks_of(hits: list[int], n_relevant: int, depth: int = 1000) -> Ranks:
    return Ranks(
        np.array([n_relevant]), np.zeros(len(hits), dtype=np.int64), np.array(hits, dtype=np.int64), np.array([depth])
    )


@pytest.mark.parametrize(
    ("metric", "hits", "n_relevant", "expected"),
    [
        ("mp5", [1, 5], 2, Fraction(1, 2)),  # only the first two ranks count
        ("mp5", [1, 3, 5, 6, 7], 5, Fraction(3, 5)),
        ("mp5", [2], 1, Fraction(0)),
        ("mp5", [], 3, Fraction(0)),
        ("r1", [2, 3], 2, Fraction(0)),
        ("r5", [5, 6], 2, Fraction(1)),
        ("r10", [11], 1, Fraction(0)),
        ("r_precision", [1, 3, 4], 3, Fraction(2, 3)),
        ("map_at_r", [1, 3, 4], 3, (1 + Fraction(2, 3)) / 3),  # the hit at rank 4 is beyond R
        ("map_at_r", [2], 2, Fraction(1, 4)),
        ("map_at_100", [1, 3, 101], 3, (1 + Fraction(2, 3)) / 3),
        ("map_at_100", list(range(1, 151)), 150, Fraction(1)),  # divided by min(R, 100)
        ("map_at_100", [100], 200, Fraction(1, 100) / 100),
        ("full_map", [1, 3, 101], 3, (1 + Fraction(2, 3) + Fraction(3, 101)) / 3),
        ("full_map_with_self", [1, 3], 2, (1 + Fraction(2, 2) + Fraction(3, 4)) / 3),
        ("full_map_with_self", [4], 1, (1 + Fraction(2, 5)) / 2),
    ],
)
def test_metric_by_hand(metric: str, hits: list[int], n_relevant: int, expected: Fraction) -> None:
    assert FULL_METRICS[metric](ranks_of(hits, n_relevant))[0] == pytest.approx(float(expected), abs=1e-15)


def test_query_with_nothing_relevant_is_no_query() -> None:
    assert len(FULL_METRICS) == 9
    for name, metric in FULL_METRICS.items():
        assert np.isnan(metric(ranks_of([], 0))[0]), name


def test_full_map_of_cut_off_ranks_is_refused() -> None:
    with pytest.raises(ValueError, match="all_ranks"):
        full_map(ranks_of([1], 2, depth=100))


def naive(is_hit: list[bool], n_relevant: int) -> dict[str, float]:
    """All metrics of one ranking in loops, as the definitions read."""

    def precision(k: int) -> float:
        return sum(is_hit[:k]) / k

    def average(k: int, divisor: int) -> float:
        return sum(precision(i + 1) for i in range(min(k, len(is_hit))) if is_hit[i]) / divisor

    with_self = [True, *is_hit]
    m = min(5, n_relevant)
    return {
        "mp5": sum(is_hit[:m]) / m,
        **{f"r{k}": float(any(is_hit[:k])) for k in (1, 5, 10)},
        "r_precision": sum(is_hit[:n_relevant]) / n_relevant,
        "map_at_r": average(n_relevant, n_relevant),
        "map_at_100": average(100, min(n_relevant, 100)),
        "full_map": average(len(is_hit), n_relevant),
        "full_map_with_self": sum(sum(with_self[: i + 1]) / (i + 1) for i in range(len(with_self)) if with_self[i])
        / (n_relevant + 1),
    }


@pytest.mark.parametrize("kind", ["smooth", "coarse", "equal"])
@pytest.mark.parametrize("n_classes", [3, 40])
def test_all_metrics_equal_loops_over_sorted_similarities(kind: str, n_classes: int) -> None:
    rng = np.random.default_rng(n_classes)
    n = 180
    labels = rng.integers(n_classes, size=n) + 2**60  # float32 and float64 alike would merge them all
    labels[::17] = -1  # distractors
    labels[5] = 7  # alone in its class
    data = {"smooth": rng.normal(size=(n, 6)), "coarse": rng.integers(-1, 2, size=(n, 3)), "equal": np.ones((n, 3))}[
        kind
    ]
    relevance, own = ByLabel(labels, labels), np.arange(n)
    deep = ranks_within(data, vectors(data), relevance, DEPTH, own)
    full = all_ranks(data, vectors(data), relevance, own)
    found = {name: metric(full) for name, metric in FULL_METRICS.items()}
    for name, metric in METRICS.items():
        np.testing.assert_array_equal(metric(deep), found[name], err_msg=name)
    unit = l2_normalised(data).astype(np.float64)
    for q in range(n):
        keys = sorted((-np.cumsum(unit[q] * unit[row])[-1], row) for row in range(n) if row != q)
        n_relevant = int((labels == labels[q]).sum()) - 1 if labels[q] >= 0 else 0
        if not n_relevant:
            assert all(np.isnan(values[q]) for values in found.values())
            continue
        expected = naive([labels[row] == labels[q] for _, row in keys], n_relevant)
        assert expected == pytest.approx({name: values[q] for name, values in found.items()}, abs=1e-12)


def test_metrics_equal_pytorch_metric_learning() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(30, size=600)
    data = l2_normalised(rng.normal(size=(30, 16))[labels] + 1.2 * rng.normal(size=(600, 16)))
    theirs = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
        k="max_bin_count",
        device=torch.device("cpu"),
    )
    expected = theirs.get_accuracy(torch.from_numpy(data), torch.from_numpy(labels))
    ranks = ranks_within(data, vectors(data), ByLabel(labels, labels), DEPTH, np.arange(600))
    for ours, name in (
        ("r1", "precision_at_1"),
        ("r_precision", "r_precision"),
        ("map_at_r", "mean_average_precision_at_r"),
    ):
        assert np.nanmean(METRICS[ours](ranks)) == pytest.approx(expected[name], abs=1e-6)


def test_full_map_equals_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    queries, index = rng.normal(size=(20, 8)), rng.normal(size=(300, 8))
    asked, labels = rng.integers(5, size=20), rng.integers(5, size=300)
    found = full_map(all_ranks(queries, vectors(index), ByLabel(asked, labels)))
    similarities = l2_normalised(queries).astype(np.float64) @ l2_normalised(index).astype(np.float64).T
    expected = [average_precision_score(labels == asked[q], similarities[q]) for q in range(20)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_host_metric_equals_that_of_door_07() -> None:
    rng = np.random.default_rng(4)
    data, labels = rng.normal(size=(200, 5)), rng.integers(60, size=200)
    ranks = ranks_within(data, vectors(data), ByLabel(labels, labels), DEPTH, np.arange(200))
    found = retrieve(data, labels)
    np.testing.assert_array_equal(METRICS["mp5"](ranks), found.precision)
    np.testing.assert_array_equal(METRICS["r1"](ranks), found.recall_at_1)


def test_labels_that_float32_merges_are_different_classes() -> None:
    labels = np.array([2**24, 2**24 + 1, 2**53, 2**53 + 1])
    ranks = ranks_within(np.ones((4, 2)), vectors(np.ones((4, 2))), ByLabel(labels, labels), DEPTH, np.arange(4))
    assert ranks.n_relevant.tolist() == [0, 0, 0, 0]


def test_index_smaller_than_five() -> None:
    labels = np.array([0, 0, 1])
    ranks = ranks_within(np.eye(3), vectors(np.eye(3)), ByLabel(labels, labels), DEPTH, np.arange(3))
    assert METRICS["mp5"](ranks)[:2].tolist() == [1.0, 1.0]  # all are at right angles: the lower row comes first
    assert np.isnan(METRICS["mp5"](ranks)[2])
    assert recall_at(ranks, 10)[:2].tolist() == [1.0, 1.0]


def test_one_large_class_does_not_make_the_search_deep_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    from guie.evaluate import ranks as module

    depths: list[tuple[int, int]] = []
    plain = module.search
    monkeypatch.setattr(
        module,
        "search",
        lambda queries, index, k, own, is_quiet: (depths.append((len(queries), k)), plain(queries, index, k, own))[1],
    )
    labels = np.concatenate([np.zeros(900, dtype=np.int64), 1 + np.arange(100) // 2])
    data = np.random.default_rng(0).normal(size=(1000, 4))
    ranks_within(data, vectors(data), ByLabel(labels, labels), DEPTH, np.arange(1000))
    assert depths == [(100, 100), (900, 899)]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_rows_cost_few_exact_similarities(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from guie.evaluate import ranks as module

    rng = np.random.default_rng(0)
    labels, data = rng.integers(50, size=1000), rng.normal(size=(1000, 16)).astype(np.float32)
    data[rng.permutation(1000)[:300]] = (
        value  # of each class about six are equal rows: every query is near-tied with 300
    )
    counted: list[int] = []
    plain = module.exact
    monkeypatch.setattr(
        module, "exact", lambda q, index, numbers, rows: (counted.append(len(rows)), plain(q, index, numbers, rows))[1]
    )
    all_ranks(data, vectors(data), ByLabel(labels, labels), np.arange(1000))
    assert sum(counted) < 1000 * 2 * 30  # each query with the about 15 to 20 different rows of its class, and few more


def test_memory_grows_with_neither_pairs_nor_classes() -> None:
    n = 12_000  # all pairs: 576 MB of float32; classes x index: 72 MB of bool
    labels = np.arange(n) // 2
    data = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    tracemalloc.start()
    try:
        ranks = ranks_within(data, vectors(data), ByLabel(labels, labels), 10, np.arange(n))
        assert tracemalloc.get_traced_memory()[1] < 45 * 2**20
        tracemalloc.reset_peak()
        full = all_ranks(data[:800], vectors(data), ByLabel(labels[:800], labels), np.arange(800))
        assert tracemalloc.get_traced_memory()[1] < 80 * 2**20
    finally:
        tracemalloc.stop()
    assert len(full.rank) == 800 and len(ranks.rank) > 0


def test_pairs_and_labels_that_say_the_same_give_the_same() -> None:
    rng = np.random.default_rng(5)
    queries, index = rng.normal(size=(30, 4)), rng.normal(size=(80, 4))
    asked, labels = rng.integers(9, size=30), rng.integers(8, size=80)
    query, row = np.nonzero(asked[:, None] == labels[None, :])
    by_label, by_pair = ByLabel(asked, labels), ByPair(query, row, 30, 80)
    np.testing.assert_array_equal(by_label.counts(), by_pair.counts())
    for rank in (
        lambda r: ranks_within(queries, vectors(index), r, 10),
        lambda r: all_ranks(queries, vectors(index), r),
    ):
        a, b = rank(by_label), rank(by_pair)
        np.testing.assert_array_equal(a.query, b.query)
        np.testing.assert_array_equal(a.rank, b.rank)
