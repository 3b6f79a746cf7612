"""Clusters of the training images, against numbers computed by hand."""

import itertools

import numpy as np
import pytest
import torch

from guie.train.objectives.clusters import cluster_curves, k_means, of_all, relabelled, standardised_in_class, usable


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
    found = standardised_in_class(features, np.array([0, 2, 0, 1, 1]))
    assert found == pytest.approx(np.array([[-1, -1], [0, 0], [1, 1], [0, -1], [0, 1]]), abs=1e-5)


def test_all_images_are_seen_in_chunks_in_their_order():
    sizes = []

    def see(items: np.ndarray) -> torch.Tensor:
        sizes.append(len(items))
        return torch.from_numpy(items)[:, None].double()

    found = of_all(see, 10000)
    assert found.dtype == np.float32 and (found[:, 0] == np.arange(10000)).all() and max(sizes) == 4096
