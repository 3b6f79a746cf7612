"""What a projection keeps: against scikit-learn's PCA and a loop over all pairs."""

import numpy as np
from sklearn.decomposition import PCA

from guie.embed.projection import Projection
from guie.evaluate.kept import kept, spectrum_kept


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_spectrum_by_sklearn() -> None:
    rows = unit(np.random.default_rng(0).normal(size=(50, 12)) * np.arange(1, 13) + 4)
    pca = PCA(5).fit(rows)
    scaled = pca.components_ * np.array([1, 7, 0.1, 3, 2])[:, None]  # whitening changes no direction
    assert np.isclose(spectrum_kept(rows, scaled), pca.explained_variance_ratio_.sum(), atol=1e-6)
    assert np.isclose(spectrum_kept(rows, np.eye(12)), 1)


def test_neighbours_by_a_loop() -> None:
    rng = np.random.default_rng(1)
    rows = unit(rng.normal(size=(40, 10)))
    matrix = rng.normal(size=(3, 10))
    projection = Projection(rng.normal(size=10) / 5, matrix * np.array([[0.1], [1], [9]]), True)
    centred = unit(rows - projection.center)
    embeddings = unit((rows - projection.center) @ unit(matrix).T)  # of directions: whitening does not count
    shared = []
    for i in range(40):
        nearest = []
        for vectors in (centred, embeddings):
            cosines = vectors.astype(np.float64) @ vectors[i].astype(np.float64)
            cosines[i] = -np.inf
            nearest.append(set(np.argsort(-cosines)[:5]))
        shared.append(len(nearest[0] & nearest[1]) / 5)
    assert np.isclose(kept(rows, projection).neighbours, np.mean(shared))
    few = kept(rows[:3], projection)  # two others each: three places stay empty, and none is shared
    assert np.isclose(few.neighbours, 2 / 5)


def test_another_center_alone_loses_nothing() -> None:
    """With all directions the embedding is the vector less the center, whose neighbours are others."""
    rng = np.random.default_rng(2)
    rows = unit(rng.normal(size=(60, 10)) + 3 * np.eye(10)[0])
    at_zero, at_mean = (Projection(center, np.eye(10), True) for center in (np.zeros(10), rows.mean(axis=0)))
    assert kept(rows, at_zero).neighbours == kept(rows, at_mean).neighbours == 1
    nearest = [np.argsort(-vectors @ vectors.T, axis=1)[:, 1] for vectors in (at_zero(rows), at_mean(rows))]
    assert (nearest[0] == nearest[1]).mean() < 0.9
