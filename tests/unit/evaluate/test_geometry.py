"""Density, spectrum, alignment, uniformity and clusters against torch, SciPy and values computed by hand."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from guie.embed.search import l2_normalised
from guie.evaluate import geometry as module
from guie.evaluate.geometry import alignment, clusters, density, geometry, spectral_decay, uniformity


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAIR_BLOCK", 19)


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.concatenate([rng.integers(12, size=150), [40, -1, -1]])  # 40 has one image
    return l2_normalised(rng.normal(size=(153, 6))), labels


def test_density_equals_scipy_class_by_class() -> None:
    unit, labels = data()
    classes = [c for c in np.unique(labels) if c >= 0]
    assert len(classes) == 13
    intra, inter = density(unit, labels)
    assert intra == pytest.approx(
        np.mean([pdist(unit[labels == c].astype(float)).mean() for c in classes if (labels == c).sum() > 1]), rel=1e-9
    )
    assert inter == pytest.approx(
        pdist([unit[labels == c].astype(float).mean(axis=0) for c in classes]).mean(), rel=1e-9
    )


def test_density_by_hand() -> None:
    intra, inter = density(np.array([[0.0, 0.0], [2.0, 0.0], [1.0, 3.0], [9.0, 9.0]]), np.array([5, 5, 8, -1]))
    assert (intra, inter) == (2.0, 3.0)


def test_density_without_pairs_is_nan_and_without_classes_refused() -> None:
    intra, inter = density(np.eye(2), np.array([0, 1]))
    assert math.isnan(intra) and inter == pytest.approx(math.sqrt(2))
    assert math.isnan(density(np.eye(2), np.array([0, 0]))[1])
    with pytest.raises(ValueError, match="no image has a class"):
        density(np.eye(2), np.array([-1, -1]))


def test_alignment_equals_the_mean_over_pairs() -> None:
    unit, labels = data()
    pairs = [
        ((unit[a].astype(float) - unit[b]) ** 2).sum()
        for a, b in combinations(range(153), 2)
        if labels[a] == labels[b] >= 0
    ]
    assert len(pairs) > 500
    assert alignment(unit, labels) == pytest.approx(np.mean(pairs), rel=1e-9)


def test_alignment_of_equal_images_is_zero() -> None:
    assert alignment(np.full((50, 3), 0.57735, dtype=np.float32), np.zeros(50, dtype=int)) == 0.0


def test_uniformity_equals_torch_pdist() -> None:
    unit, _ = data()
    expected = torch.pdist(torch.from_numpy(unit).double()).pow(2).mul(-2).exp().mean().log()
    assert uniformity(unit) == pytest.approx(float(expected), rel=1e-6)
    assert uniformity(np.ones((30, 4))) == 0.0
    assert uniformity(np.array([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8.0)  # exp(-2 * 2**2)


def test_spectral_decay_by_hand() -> None:
    assert spectral_decay(np.eye(8)) == pytest.approx(0.0, abs=1e-12)
    # singular values 3 and 1, scaled 3/4 and 1/4: KL of (1/2, 1/2) from it
    expected = 0.5 * math.log((1 / 2) / (3 / 4)) + 0.5 * math.log((1 / 2) / (1 / 4))
    rows = np.repeat(np.array([[3.0, 0.0], [0.0, 1.0]]), 40, axis=0)
    assert spectral_decay(rows) == pytest.approx(expected, rel=1e-9)


def test_spectral_decay_equals_the_plain_singular_values() -> None:
    values = np.random.default_rng(1).normal(size=(300, 7)) * np.arange(1, 8)
    s = np.linalg.svd(values, compute_uv=False)
    s /= s.sum()
    assert spectral_decay(values) == pytest.approx(sum(1 / 7 * math.log(1 / 7 / x) for x in s), rel=1e-9)


def test_spectral_decay_of_an_unused_direction_is_infinite() -> None:
    assert spectral_decay(np.random.default_rng(0).normal(size=(60, 3)) @ np.eye(3, 5)) == math.inf
    assert spectral_decay(np.eye(5)[:3]) == math.inf


def test_clusters_equal_the_entropies_of_known_clusters() -> None:
    # three far blobs, which k-means finds; of the first blob's ten images four are labelled as the second's class
    rng = np.random.default_rng(0)
    blob = np.repeat([0, 1, 2], 10)
    labels = blob.copy()
    labels[:4] = 1
    found = clusters(np.eye(3)[blob] + 0.01 * rng.normal(size=(30, 3)), labels)

    def entropy(counts: list[int]) -> float:
        return -sum(c / 30 * math.log(c / 30) for c in counts if c)

    of_labels, of_blobs, joint = entropy([6, 14, 10]), entropy([10, 10, 10]), entropy([6, 4, 10, 10])
    assert found["nmi"] == pytest.approx((of_labels + of_blobs - joint) / ((of_labels + of_blobs) / 2))
    assert found["ami"] < found["nmi"]  # chance has its share in the first


def test_clusters_of_noise_are_no_better_than_chance() -> None:
    rng = np.random.default_rng(0)
    found = clusters(rng.normal(size=(600, 8)), np.append(rng.integers(20, size=597), [-1, -1, -1]))
    assert abs(found["ami"]) < 0.02 < found["nmi"]


def test_geometry_names_all_six() -> None:
    scores = geometry(*data())
    assert list(scores) == ["density_intra", "density_inter", "density", "spectral_decay", "alignment", "uniformity"]
    assert scores["density"] == pytest.approx(scores["density_intra"] / scores["density_inter"])
