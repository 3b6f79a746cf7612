"""PCA against scikit-learn, up to the sign of each component; from files, in bounded memory."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from sklearn import decomposition

from guie.embed.pca import PCA, Moments, fit_pca, mixed, moments_of, pca_of


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


def assert_equals_scikit_learn(ours: PCA, features: np.ndarray, rtol: float = 1e-9) -> None:
    """Mean, spread and directions; the oracle is given exactly the same numbers, in float64."""
    oracle = decomposition.PCA(len(ours.components_), svd_solver="full").fit(features.astype(np.float64))
    np.testing.assert_allclose(ours.mean_, oracle.mean_, rtol=1e-12)
    np.testing.assert_allclose(ours.explained_variance_, oracle.explained_variance_, rtol=rtol)
    np.testing.assert_allclose(ours.explained_variance_ratio_, oracle.explained_variance_ratio_, rtol=rtol)
    np.testing.assert_allclose(np.abs((ours.components_ * oracle.components_).sum(1)), 1.0, rtol=rtol)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("chunk", [1, 64, 10_000])
def test_memory_map_of_any_precision_equals_scikit_learn(
    features: np.ndarray, tmp_path: Path, dtype: type, chunk: int
) -> None:
    np.save(tmp_path / "features.npy", features.astype(dtype))
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    assert mapped.dtype == dtype
    assert_equals_scikit_learn(fit_pca(mapped, 8, chunk=chunk), mapped)


@pytest.mark.parametrize("ratio", [1e3, 1e6])
def test_mean_far_above_the_spread_costs_no_digits(features: np.ndarray, ratio: float) -> None:
    """By plain sums of squares, a mean of a million standard deviations costs twelve of sixteen digits."""
    far = features.astype(np.float64) + ratio * features.std()
    assert_equals_scikit_learn(fit_pca(far, 8, chunk=64), far, rtol=1e-7)


def test_shards_equal_one_array_however_rows_are_sorted(features: np.ndarray) -> None:
    """Sorted, so that no shard is like the whole; one shard is empty, one has a single row."""
    ordered = features[np.argsort(features[:, 0])]
    shards = np.split(ordered, [0, 1, 130, 400])
    assert [len(shard) for shard in shards] == [0, 1, 129, 270, 100]
    assert_equals_scikit_learn(fit_pca(shards, 8, chunk=50), ordered)


def test_shards_of_different_widths_are_refused(features: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\[29, 30\] features"):
        fit_pca([features, features[:, 1:]], 4)


def test_features_without_spread_give_finite_numbers() -> None:
    pca = fit_pca(np.full((20, 6), 3.0), 4, 0.5)
    assert np.isfinite(pca.transform(np.full((2, 6), 3.0))).all() and (pca.explained_variance_ == 0).all()


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """A file of 64 MB; in float64 it would be 256."""
    rng, peaks = np.random.default_rng(0), []
    mapped = np.lib.format.open_memmap(tmp_path / "features.npy", mode="w+", dtype=np.float16, shape=(500_000, 64))
    mapped[:] = np.tile(rng.normal(size=(50_000, 64)), (10, 1))
    for n in (50_000, 500_000):
        tracemalloc.start()
        pca = fit_pca(mapped[:n], 8)
        pca.transform(mapped[:1000])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert 4e6 < peaks[0] < 12e6 and peaks[1] < peaks[0] + 1e6


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


def test_mixture_is_that_of_weighted_rows(tmp_path: Path) -> None:
    """Each part has its share, however many rows it has: numpy's covariance with a weight for each row."""
    rng = np.random.default_rng(5)
    parts = [rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6)) + 3, rng.normal(size=(9, 6)) - 1]
    shares = [0.3, 0.7]
    found = mixed([(moments_of(part), 10 * share) for part, share in zip(parts, shares, strict=True)])
    weights = np.concatenate([np.full(len(part), share / len(part)) for part, share in zip(parts, shares, strict=True)])
    rows = np.concatenate(parts)
    mean = weights @ rows
    within = sum(share * np.cov(part.T) for part, share in zip(parts, shares, strict=True))
    centres = np.stack([part.mean(axis=0) for part in parts]) - mean
    expected = within + sum(share * np.outer(c, c) for c, share in zip(centres, shares, strict=True))
    assert found.n == 49 and np.allclose(found.mean, mean)
    assert np.allclose(np.tril(found.covariance), np.tril(expected))
    found.save(tmp_path / "moments.npz")
    loaded = Moments.load(tmp_path / "moments.npz")
    assert loaded.n == 49 and np.allclose(np.tril(loaded.covariance), np.tril(expected), rtol=1e-5)
    whole = fit_pca(rows, 3, 0.5)
    again = pca_of(moments_of(rows), 3, 0.5)
    assert np.array_equal(whole.matrix, again.matrix)
