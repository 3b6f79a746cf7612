"""Clusters of the training images, against numbers computed by hand."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_info, threadpool_limits

from guie.train.objectives.clusters import cluster_curves, k_means, of_all, relabelled, standardise_in_class, usable


def blobs(n_each: int, *centers: tuple[float, float]) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([center + 0.1 * rng.standard_normal((n_each, 2)) for center in centers]).astype(np.float32)


def test_new_clusters_get_the_numbers_of_those_that_they_overlap():
    found = relabelled(np.array([2, 2, 0, 0, 0, 1]), np.array([0, 0, 0, 1, 1, 2]), 3)
    assert found.tolist() == [0, 0, 1, 1, 1, 2]


def test_no_other_numbers_keep_more_images():
    rng = np.random.default_rng(1)
    for _ in range(20):
        new, old = rng.integers(0, 4, 30), rng.integers(-1, 4, 30)
        most = max((np.array(order)[new] == old).sum() for order in itertools.permutations(range(4)))
        assert (relabelled(new, old, 4) == old).sum() == most


def test_k_means_finds_blobs_and_repeats_with_torchs_seed():
    points = blobs(20, (0, 0), (5, 0), (0, 5))
    torch.manual_seed(3)
    found = k_means(points, 3)
    torch.manual_seed(3)
    assert (k_means(points, 3) == found).all()
    assert found.dtype == np.int64 and len(np.unique(found)) == 3
    assert all(len(np.unique(found[i : i + 20])) == 1 for i in (0, 20, 40))


def test_clusters_are_the_same_for_any_number_of_threads(monkeypatch: pytest.MonkeyPatch):
    """Several threads add their sums in any order. Noise has images between two clusters, and no rounding may move
    them."""
    used = []
    fitted = KMeans.fit_predict

    def fit_predict(self: KMeans, points: np.ndarray) -> np.ndarray:
        used.extend(pool["num_threads"] for pool in threadpool_info())
        return fitted(self, points)

    monkeypatch.setattr(KMeans, "fit_predict", fit_predict)
    points = np.random.default_rng(0).standard_normal((3000, 8)).astype(np.float32)
    found = []
    for n_threads in (1, 2, 4):
        torch.manual_seed(3)
        with threadpool_limits(n_threads):
            found.append(k_means(points, 20, n_restarts=2).tolist())
    assert found[0] == found[1] == found[2]
    assert set(used) == {1}


def test_given_starts_are_lloyds_and_draw_nothing():
    points = blobs(10, (0, 0), (3, 0), (0, 3))
    state = torch.get_rng_state()
    found = k_means(points, 3, starts=points[[0, 10, 20]])
    assert found.tolist() == [0] * 10 + [1] * 10 + [2] * 10  # each start keeps its number
    assert torch.equal(torch.get_rng_state(), state)


def test_equal_points_are_no_error_and_tell_nothing(recwarn: pytest.WarningsRecorder):
    found = k_means(np.ones((6, 2), np.float32), 3, starts=np.ones((3, 2), np.float32))
    assert len(found) == 6 and not recwarn.list


def test_images_alone_of_their_class_and_clusters_of_few_classes_are_left_out():
    clusters = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 2])
    labels = np.array([5, 5, 6, 6, 7, 5, 5, 6, 8, 8])
    assert usable(clusters, labels, 2).tolist() == [0, 0, 0, 0, -1, -1, -1, -1, -1, -1]
    assert usable(clusters, labels, 1).tolist() == [0, 0, 0, 0, -1, 1, 1, -1, 2, 2]


def test_curves_tell_sizes_and_the_share_left_out():
    assert cluster_curves(np.array([0, 0, 2, 2, 2, -1, -1, -1])) == {
        "n_clusters": 2,
        "smallest_cluster": 2,
        "largest_cluster": 3,
        "left_out_share": 0.375,
    }
    assert cluster_curves(np.array([-1, -1]))["left_out_share"] == 1


def test_features_are_standardised_with_the_population_deviation_of_their_class():
    features = np.array([[1, 0], [9, 9], [3, 4], [1, 2], [1, 4]], np.float32)
    standardise_in_class(features, np.array([0, 2, 0, 1, 1]))
    assert features.dtype == np.float32 and features == pytest.approx(
        np.array([[-1, -1], [0, 0], [1, 1], [0, -1], [0, 1]]), abs=1e-5
    )


def test_a_class_far_from_zero_is_standardised_as_exactly():
    """Sums in float32 lose the deviation of 3,000 images around 10,000."""
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, 3000)
    wide = rng.standard_normal((3000, 4)) * [1, 2, 3, 4] + 10_000.0 * (labels == 1)[:, None]
    features = wide.astype(np.float32)
    expected = np.empty_like(wide)
    for label in range(3):
        own = features[labels == label].astype(np.float64)
        expected[labels == label] = (own - own.mean(axis=0)) / own.std(axis=0)
    standardise_in_class(features, labels)
    assert np.abs(features - expected).max() < 1e-3


def test_all_images_are_seen_in_chunks_in_their_order():
    sizes = []

    def see(items: np.ndarray) -> torch.Tensor:
        sizes.append(len(items))
        return torch.from_numpy(items)[:, None].double()

    found = of_all(see, 70_000)
    assert found.dtype == np.float32 and (found[:, 0] == np.arange(70_000)).all() and max(sizes) == 32_768
