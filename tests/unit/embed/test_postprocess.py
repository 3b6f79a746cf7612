"""Post-processing against plain loops over dense matrices, written from the papers."""

import inspect

import numpy as np
import pytest

from guie.embed import postprocess
from guie.embed.postprocess import length_mixed, power_normalised, ranked
from guie.embed.search import l2_normalised, search, vectors
from guie.recipe import PostProcess


def clusters(n: int, dim: int = 12, seed: int = 0) -> np.ndarray:
    """Images in groups of about five, of lengths that differ."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(-(-n // 5), dim))
    return ((centers[np.arange(n) // 5] + 0.7 * rng.normal(size=(n, dim))) * rng.uniform(0.5, 2, (n, 1))).astype(
        np.float32
    )


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x)


def nearest(query: np.ndarray, rows: dict[int, np.ndarray], k: int) -> list[int]:
    """Keys of the k rows with the largest products."""
    return sorted(rows, key=lambda j: -float(query @ rows[j]))[:k]


def mean_with_nearest(
    own: np.ndarray, rows: dict[int, np.ndarray], vectors_of: dict[int, np.ndarray], n: int, alpha: float
) -> np.ndarray:
    chosen = nearest(own, rows, n)
    return unit(own + sum(max(float(own @ rows[j]), 0.0) ** alpha * vectors_of[j] for j in chosen)) if chosen else own


def similarities_without_the_query(
    embeddings: np.ndarray, n_expanded: int, n_augmented: int, alpha: float
) -> np.ndarray:
    """One query at a time: it is taken out of the set, and only then is the index augmented and the query expanded."""
    rows = {i: unit(x.astype(np.float64)) for i, x in enumerate(embeddings)}
    result = np.full((len(rows), len(rows)), -np.inf)
    for i in rows:
        index = {j: x for j, x in rows.items() if j != i}
        augmented = {
            j: mean_with_nearest(x, {m: y for m, y in index.items() if m != j}, index, n_augmented, alpha)
            for j, x in index.items()
        }
        query = mean_with_nearest(rows[i], index, augmented, n_expanded, alpha)
        for j, x in augmented.items():
            result[i, j] = query @ x
    return result


def assert_first_k(got: tuple[np.ndarray, np.ndarray], expected: np.ndarray, k: int, atol: float = 2e-6) -> None:
    """The rows that were found have the largest of the expected similarities, in order; ties of float32 may change
    places."""
    rows, similarities = got
    n = len(expected)
    assert rows.shape == similarities.shape == (n, k)
    assert all(len(set(row)) == k and i not in row for i, row in enumerate(rows.tolist()))
    best = -np.sort(-expected, axis=1)[:, :k]
    np.testing.assert_allclose(np.take_along_axis(expected, rows, axis=1), best, atol=atol)
    np.testing.assert_allclose(similarities, best, atol=atol)


@pytest.mark.parametrize(("n_expanded", "n_augmented"), [(3, 0), (0, 3), (4, 2), (1, 1)])
@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_expansion_and_augmentation_equal_a_loop_that_takes_each_query_out(
    n_expanded: int, n_augmented: int, alpha: float
) -> None:
    embeddings = clusters(40)
    expected = similarities_without_the_query(embeddings, n_expanded, n_augmented, alpha)
    assert_first_k(
        ranked(embeddings, 10, PostProcess(n_expanded=n_expanded, n_augmented=n_augmented, alpha=alpha)), expected, 10
    )


def test_augmented_index_does_not_know_the_query() -> None:
    """Two images, each other's nearest. An index that was augmented with the query would be nearer to it than the other
    image is."""
    angles = np.array([0.0, 40.0, 180.0, 200.0, 190.0]) / 180 * np.pi
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rows, similarities = ranked(embeddings, 1, PostProcess(n_augmented=1, alpha=0.0))
    assert rows[0, 0] == 1
    # image 1 without image 0: its nearest is then image 2 (180 degrees), and their middle is at 110 degrees
    assert similarities[0, 0] == pytest.approx(np.cos(110 / 180 * np.pi), abs=1e-6)


def test_small_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = clusters(50)
    settings = [PostProcess(n_expanded=3, n_augmented=2), PostProcess(rerank_k1=8)]
    whole = [ranked(embeddings, 5, post) for post in settings]
    monkeypatch.setattr(postprocess, "N_NUMBERS", 1)
    for post, (rows, similarities) in zip(settings, whole, strict=True):
        again = ranked(embeddings, 5, post)
        np.testing.assert_array_equal(again[0], rows)
        np.testing.assert_allclose(again[1], similarities, atol=1e-6)


def test_shortlist_is_reordered_by_the_augmented_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postprocess, "SHORTLIST", 12)
    embeddings = clusters(60)
    expected = similarities_without_the_query(embeddings, 0, 3, 3.0)
    plain, _ = search(embeddings, vectors(embeddings), 12, own_rows=np.arange(60))
    allowed = np.full_like(expected, -np.inf)
    np.put_along_axis(allowed, plain, np.take_along_axis(expected, plain, axis=1), axis=1)
    assert_first_k(ranked(embeddings, 5, PostProcess(n_augmented=3)), allowed, 5)


def jaccard_reranking(embeddings: np.ndarray, k1: int, k2: int, weight: float) -> np.ndarray:
    """Zhong et al. 2017 over a dense matrix of all pairs; 1 - cosine as the distance."""
    x = np.stack([unit(row.astype(np.float64)) for row in embeddings])
    distance = 1.0 - x @ x.T
    order = np.argsort(distance, axis=1, kind="stable")
    n = len(x)

    def reciprocal(i: int, k: int) -> set[int]:
        return {int(j) for j in order[i, : k + 1] if i in order[j, : k + 1]}

    encoded = np.zeros((n, n))
    for i in range(n):
        first = reciprocal(i, k1)
        whole = set(first)
        for j in first:
            theirs = reciprocal(j, round(k1 / 2))
            if len(theirs & first) > 2 / 3 * len(theirs):
                whole |= theirs
        for j in whole:
            encoded[i, j] = np.exp(-distance[i, j])
        encoded[i] /= encoded[i].sum()
    encoded = np.stack([encoded[order[i, :k2]].mean(axis=0) for i in range(n)])
    final = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            shared = np.minimum(encoded[i], encoded[j]).sum()
            final[i, j] = (1 - weight) * (1 - shared / (2 - shared)) + weight * distance[i, j]
    return final


@pytest.mark.parametrize(("k1", "k2", "weight"), [(8, 3, 0.3), (5, 1, 0.0), (7, 4, 1.0), (20, 6, 0.3)])
def test_reranking_equals_dense_loops(k1: int, k2: int, weight: float) -> None:
    embeddings = clusters(70, seed=3)
    expected = 1.0 - jaccard_reranking(embeddings, k1, k2, weight)
    np.fill_diagonal(expected, -np.inf)
    assert_first_k(ranked(embeddings, 12, PostProcess(rerank_k1=k1, rerank_k2=k2, rerank_weight=weight)), expected, 12)


def test_everything_helps_where_classes_are_strings_of_neighbours() -> None:
    """Images along arcs: an image's far relatives are found through the near ones."""
    angles = (
        np.concatenate([np.linspace(0, 80, 12), np.linspace(110, 190, 12), np.linspace(220, 300, 12)]) / 180 * np.pi
    )
    rng = np.random.default_rng(0)
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1) + 0.03 * rng.normal(size=(36, 2))
    classes = np.arange(36) // 12

    def precision(post: PostProcess) -> float:
        rows, _ = ranked(embeddings, 11, post)
        return float((classes[rows] == classes[:, None]).mean())

    plain = precision(PostProcess())
    assert plain < 0.95
    for post in (PostProcess(n_expanded=5), PostProcess(n_augmented=5), PostProcess(rerank_k1=8, rerank_k2=3)):
        assert precision(post) > plain + 0.005


@pytest.mark.parametrize(
    "post",
    [PostProcess(), PostProcess(n_expanded=3, n_augmented=3), PostProcess(rerank_k1=20), PostProcess(length_mix=0.5)],
)
@pytest.mark.parametrize("n", [2, 3, 4])
def test_fewer_images_than_are_asked_for_are_padded(post: PostProcess, n: int) -> None:
    rows, similarities = ranked(clusters(n), 5, post)
    assert (
        (rows[:, : n - 1] >= 0).all() and (rows[:, n - 1 :] == -1).all() and np.isneginf(similarities[:, n - 1 :]).all()
    )
    assert np.isfinite(similarities[:, : n - 1]).all()


@pytest.mark.parametrize("post", [PostProcess(n_expanded=3, n_augmented=3), PostProcess(rerank_k1=5)])
def test_embedding_that_is_not_finite_is_refused(post: PostProcess) -> None:
    embeddings = clusters(20)
    embeddings[7, 1] = np.nan
    with pytest.raises(ValueError, match="embedding 7 is not finite"):
        ranked(embeddings, 5, post)


def test_no_label_reaches_the_module() -> None:
    assert list(inspect.signature(ranked).parameters) == ["embeddings", "k", "post"]


def test_power_by_hand() -> None:
    got = power_normalised(np.array([[9.0, -16.0, 0.0]]), 0.5)
    np.testing.assert_allclose(got, [[0.6, -0.8, 0.0]], atol=1e-6)
    np.testing.assert_allclose(power_normalised(clusters(5), 1.0), l2_normalised(clusters(5)), atol=1e-6)


def test_length_mixed_by_hand_and_searched_by_euclidean_distance() -> None:
    np.testing.assert_allclose(
        length_mixed(np.array([[6.0, 8.0]]), 0.25, 5.0), [[0.75 * 0.6 + 0.25 * 1.2, 0.75 * 0.8 + 0.25 * 1.6]], rtol=1e-6
    )
    embeddings = clusters(30)
    mixed = length_mixed(embeddings, 0.5, float(np.linalg.norm(embeddings, axis=1).mean()))
    expected = -((mixed[:, None].astype(np.float64) - mixed[None]) ** 2).sum(-1)
    np.fill_diagonal(expected, -np.inf)
    assert_first_k(ranked(mixed, 8, PostProcess(length_mix=0.5)), expected, 8, atol=1e-5)
