"""PCA against scikit-learn, up to the sign of each component."""

from pathlib import Path

import numpy as np
import pytest
from sklearn import decomposition

from guie.embed.pca import PCA, fit_pca


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(500, 30)) @ rng.normal(size=(30, 30)) + 7).astype(np.float32)


@pytest.mark.parametrize("whiten", [0.0, 1.0])
def test_transform_equals_scikit_learn_up_to_sign(features: np.ndarray, whiten: float) -> None:
    oracle = decomposition.PCA(8, whiten=bool(whiten), svd_solver="full").fit(features.astype(np.float64))
    ours = fit_pca(features, 8, whiten, chunk=64)
    expected, got = oracle.transform(features), ours.transform(features)
    signs = np.sign((expected * got).sum(0))
    np.testing.assert_allclose(got * signs, expected, atol=2e-4)
    np.testing.assert_allclose(ours.explained_variance_, oracle.explained_variance_, rtol=1e-6)
    np.testing.assert_allclose(ours.explained_variance_ratio_, oracle.explained_variance_ratio_, rtol=1e-6)


def test_saved_pca_comes_back(features: np.ndarray, tmp_path: Path) -> None:
    pca = fit_pca(features, 4, 0.5)
    pca.save(tmp_path / "pca.npz")
    np.testing.assert_array_equal(PCA.load(tmp_path / "pca.npz").transform(features), pca.transform(features))


def test_too_few_images_are_refused(features: np.ndarray) -> None:
    with pytest.raises(ValueError, match="more than 64 images"):
        fit_pca(features, 64)


def test_feature_that_is_not_finite_is_refused(features: np.ndarray) -> None:
    broken = features.copy()
    broken[3, 3] = np.inf
    with pytest.raises(ValueError, match="not finite"):
        fit_pca(broken, 4)
