"""The host's metric against fractions computed by hand, and the search against brute force."""

import numpy as np
import pytest

from guie.embed.retrieval import host_precision, retrieve, summarise
from guie.embed.search import l2_normalised


@pytest.mark.parametrize(
    ("hits", "n_relevant", "expected"),
    [
        ([1, 0, 0, 0, 1], 2, 1 / 2),  # only the first two ranks count: the hit at rank 5 does not
        ([0, 0, 1, 1, 1], 2, 0.0),
        ([1, 1, 0, 0, 0], 2, 1.0),
        ([1, 0, 1, 0, 1], 5, 3 / 5),
        ([1, 0, 1, 0, 1], 50, 3 / 5),
        ([0, 1, 1, 0, 0], 3, 2 / 3),
        ([1, 1, 1, 1, 1], 1, 1.0),
        ([0, 1, 1, 1, 1], 1, 0.0),
    ],
)
def test_host_precision_by_hand(hits: list[int], n_relevant: int, expected: float) -> None:
    assert host_precision(np.array([hits], dtype=bool), np.array([n_relevant]))[0] == pytest.approx(expected)


def test_query_with_nothing_relevant_is_no_query() -> None:
    assert np.isnan(host_precision(np.zeros((1, 5), dtype=bool), np.array([0]))[0])


@pytest.mark.parametrize("n_classes", [2, 11, 103])
def test_retrieve_equals_brute_force_by_euclidean_distance(n_classes: int) -> None:
    rng = np.random.default_rng(n_classes)
    vectors, labels = rng.normal(size=(300, 8)), rng.integers(n_classes, size=300) + 2**40
    unit = l2_normalised(vectors).astype(np.float64)
    found = retrieve(vectors, labels)
    for q in range(300):
        distance = ((unit - unit[q]) ** 2).sum(1)
        others = [i for i in np.argsort(distance, kind="stable") if i != q]
        np.testing.assert_allclose(
            distance[found.neighbours[q]], distance[others[:5]], atol=1e-6
        )  # equal up to ties of float32
        n = int((labels == labels[q]).sum()) - 1
        m = min(n, 5)
        expected = sum(labels[i] == labels[q] for i in found.neighbours[q][:m]) / m if m else np.nan
        assert found.precision[q] == pytest.approx(expected, nan_ok=True)
        assert found.n_relevant[q] == n


def test_self_is_left_out_by_number_among_exact_duplicates() -> None:
    vectors = np.ones((12, 4), dtype=np.float32)
    found = retrieve(vectors, np.arange(12) % 2)
    assert all(q not in found.neighbours[q] for q in range(12))
    assert (found.neighbours >= 0).all()


def test_small_index_is_padded() -> None:
    found = retrieve(np.eye(3), np.array([0, 0, 1]))
    assert (found.neighbours[:, 2:] == -1).all() and not found.is_correct[:, 2:].any()


def test_domains_count_alike_whatever_their_size() -> None:
    """Directions in degrees. Landmarks: six queries beside their one relevant image. Toys: three of class 3 at 120, 122
    and 160, and a lone one at 161.

    Of class 3, 120 finds 122 and then 81, a landmark: 1/2. 122 finds 120 and 160: 1. 160 finds the lone one first: 1/2
    and no R@1. The mean over domains is (1 + 2/3) / 2 = 5/6; over the nine queries it would be 8/9.
    """
    degrees = np.array([0, 1, 40, 41, 80, 81, 120, 122, 160, 161]) / 180 * np.pi
    classes = np.array([0, 0, 1, 1, 2, 2, 3, 3, 3, 4])
    domains = np.repeat(["landmarks", "toys"], [6, 4])
    found = retrieve(np.stack([np.cos(degrees), np.sin(degrees)], axis=1), classes)
    np.testing.assert_array_equal(found.precision, [1, 1, 1, 1, 1, 1, 1 / 2, 1, 1 / 2, np.nan])
    expected = {
        "mp5": 5 / 6,
        "mp5_landmarks": 1.0,
        "mp5_toys": 2 / 3,
        "r1": 5 / 6,
        "r1_landmarks": 1.0,
        "r1_toys": 2 / 3,
    }
    assert summarise(found, domains) == pytest.approx(expected)


def test_embedding_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        retrieve(np.array([[np.nan, 1.0], [0.0, 1.0]]), np.array([0, 0]))
