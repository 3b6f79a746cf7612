"""The search against brute force that sorts by exact similarity and row, where ties, blocks and shards are made to
hurt."""

from pathlib import Path

import numpy as np
import pytest

from guie.embed import search as module
from guie.embed.search import l2_normalised, search, vectors
from guie.evaluate.embedding_files import open_embeddings


def brute_force(queries: np.ndarray, index: np.ndarray, k: int, own: np.ndarray, distance: str) -> np.ndarray:
    """Sums in plain Python, one dimension after the other, and sorts pairs of (-similarity, row)."""
    if distance == "cosine":
        queries, index = l2_normalised(queries), l2_normalised(index)
    found = np.full((len(queries), k), -1)
    for q, query in enumerate(queries.astype(np.float32).tolist()):
        keys = []
        for row, other in enumerate(index.astype(np.float32).tolist()):
            total = 0.0
            for a, b in zip(query, other, strict=True):
                total += a * b if distance == "cosine" else -((a - b) ** 2)
            if row != own[q]:
                keys.append((-total, row))
        nearest = [row for _, row in sorted(keys)[:k]]
        found[q, : len(nearest)] = nearest
    return found


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("spare", [0, 3])
@pytest.mark.parametrize("kind", ["coarse", "smooth", "equal", "nearly equal", "triplets", "zeros", "group", "codes"])
def test_search_equals_brute_force_row_by_row(
    kind: str, distance: str, spare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    data = {
        "coarse": rng.integers(
            -1, 2, size=(150, 4)
        ),  # a few dozen different vectors: most neighbours are ties, zero vectors among them
        "smooth": rng.normal(size=(150, 8)),
        "equal": np.ones((150, 4)),
        "nearly equal": 1 + 1e-6 * rng.normal(size=(150, 4)),  # float32 similarities cannot tell them apart
        "triplets": np.repeat(rng.normal(size=(50, 8)), 3, axis=0)
        + 1e-7 * rng.normal(size=(150, 8)),  # so is it in threes, far from the others
        "zeros": rng.normal(size=(150, 8)) * (rng.random((150, 1)) < 0.6),  # 0 and -0 alike
        "group": np.where(
            rng.random((150, 1)) < 0.4, np.full(8, 0.3), np.full(8, 0.3) + 0.1 * rng.normal(size=(150, 8))
        ),  # nearest to everyone
        "codes": np.sign(rng.normal(size=(150, 12))),  # different rows whose similarities are equal
    }[kind].astype(np.float32)
    monkeypatch.setattr(module, "SPARE", spare)
    monkeypatch.setattr(module, "BLOCK", 37)
    monkeypatch.setattr(module, "TIE_BLOCK", 23)
    monkeypatch.setattr(module, "N_TIED", 7)
    monkeypatch.setattr(module, "N_EXACT", 50)
    own = np.arange(150)
    expected = brute_force(data, data, 5, own, distance)
    rows, similarities = search(data, vectors(data, distance), 5, own)
    np.testing.assert_array_equal(rows, expected)
    assert (np.diff(similarities, axis=1) <= 0).all()
    shards = [data[:1], data[1:90], data[90:]]
    np.testing.assert_array_equal(search(data, vectors(shards, distance), 5, own)[0], expected)
    queries = rng.normal(size=(9, data.shape[1])).astype(np.float32)
    none = np.full(9, -1)
    np.testing.assert_array_equal(
        search(queries, vectors(data, distance), 5)[0], brute_force(queries, data, 5, none, distance)
    )


def test_cosines_are_those_worked_out_by_hand() -> None:
    """(3, 4) has length 5; a vector of zeros stays one, and is as far from all as a right angle."""
    index = np.array([[0, 0], [-1, 0], [0, 2], [3, 4]], dtype=np.float32)
    np.testing.assert_allclose(l2_normalised(index), [[0, 0], [-1, 0], [0, 1], [0.6, 0.8]], rtol=1e-6)
    rows, cosines = search(np.array([[10, 0], [1, 1]], dtype=np.float32), vectors(index), 4)
    assert rows.tolist() == [[3, 0, 2, 1], [3, 2, 0, 1]]
    np.testing.assert_allclose(cosines, [[0.6, 0, 0, -1], [1.4 / 2**0.5, 0.5**0.5, 0, -(0.5**0.5)]], rtol=1e-6)


def test_of_equal_images_the_lower_rows_come_first_and_the_query_is_left_out() -> None:
    found, _ = search(np.ones((40, 3)), vectors(np.ones((40, 3))), 3, np.arange(40))
    assert found[0].tolist() == [1, 2, 3] and found[1].tolist() == [0, 2, 3] and found[39].tolist() == [0, 1, 2]


def test_index_smaller_than_k_is_padded() -> None:
    rows, similarities = search(np.eye(3), vectors(np.eye(3)), 5, np.array([0, 1, -1]))
    assert rows.tolist() == [[1, 2, -1, -1, -1], [0, 2, -1, -1, -1], [2, 0, 1, -1, -1]]
    assert np.isneginf(similarities[:, 3:]).all()


def test_chosen_rows_are_numbered_from_zero() -> None:
    rng = np.random.default_rng(1)
    data, chosen = rng.normal(size=(60, 6)), np.array([3, 4, 10, 31, 32, 59])
    expected = search(data, vectors(data[chosen]), 4)[0]
    np.testing.assert_array_equal(search(data, vectors(data, chosen=chosen), 4)[0], expected)
    np.testing.assert_array_equal(search(data, vectors([data[:33], data[33:]], chosen=chosen), 4)[0], expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_shards_on_disk_give_what_one_array_gives(tmp_path: Path, dtype: type) -> None:
    data = np.random.default_rng(2).normal(size=(500, 16)).astype(dtype)
    for i, part in enumerate(np.array_split(data, 3)):
        np.save(tmp_path / f"shard{i}.npy", part)
    shards = open_embeddings(tmp_path)
    assert len(shards) == 3 and all(isinstance(part, np.memmap) for part in shards)
    (rows, similarities), (expected, cosines) = (
        search(data[:50], vectors(shards), 7),
        search(data[:50], vectors(data), 7),
    )
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(similarities, cosines, atol=1e-6)


def test_euclidean_distance_is_that_of_the_vectors_as_they_are() -> None:
    index = np.array([[10.0, 0.0], [0.0, 1.0]])  # by angle the first is nearer to (1, .5), by distance the second
    assert search(np.array([[1.0, 0.5]]), vectors(index, "cosine"), 1)[0].tolist() == [[0]]
    rows, similarities = search(np.array([[1.0, 0.5]]), vectors(index, "euclidean"), 1)
    assert rows.tolist() == [[1]] and similarities[0, 0] == pytest.approx(-1.25)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("magnitude", [1e-300, 1e-40, 1e-25, 1e-13, 1e-7, 6e3, 1e20, 1e38, 1e300])
def test_lengths_that_overflow_change_no_cosine(dtype: type, magnitude: float) -> None:
    info = np.finfo(dtype)
    if not float(info.tiny) <= magnitude <= float(info.max) / 8:
        pytest.skip("not a number of this type")
    data = np.random.default_rng(3).normal(size=(40, 6)).round(3)
    data = np.clip(data, 0.25, 4)  # no digits are lost below the smallest number
    scaled = (data * magnitude).astype(dtype)
    exact = scaled.astype(np.longdouble)
    exact = exact / np.sqrt((exact**2).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(l2_normalised(scaled), exact.astype(np.float64), rtol=3e-7)
    expected = np.argsort(-(exact @ exact.T).astype(np.float64) + 9 * np.eye(40), axis=1)[:, :5]
    np.testing.assert_array_equal(search(scaled, vectors(scaled), 5, np.arange(40))[0], expected)


def test_what_cannot_be_searched_is_refused() -> None:
    bad = np.ones((9, 2))
    bad[7, 1] = np.inf
    with pytest.raises(ValueError, match="embedding 7 is not finite"):
        search(np.ones((1, 2)), vectors([bad[:4], bad[4:]]), 1)
    with pytest.raises(ValueError, match="not finite"):
        search(np.full((1, 2), np.nan), vectors(np.ones((3, 2))), 1)
    with pytest.raises(ValueError, match="shapes"):
        vectors([np.ones((3, 2)), np.ones((3, 4))])
    with pytest.raises(ValueError, match="shape"):
        search(np.ones((1, 3)), vectors(np.ones((3, 2))), 1)
    with pytest.raises(ValueError, match="manhattan"):
        vectors(np.ones((3, 2)), "manhattan")
    with pytest.raises(ValueError, match="complex64"):
        vectors(np.ones((3, 2), dtype=np.complex64))
    for value in (1e19, 1e200, 1e-30, 1e-200):  # their squares are no float32
        with pytest.raises(ValueError, match="multiply all by one number"):
            search(np.ones((1, 2)), vectors(np.full((3, 2), value), "euclidean"), 1)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("kind", ["zero", "equal", "only in the index", "two thousand of ten"])
def test_equal_rows_cost_no_more_exact_similarities_than_different_ones(
    kind: str, distance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """600 equal rows of 2,000: each of 600 queries with all of them would be 360,000 pairs, and of all queries with all
    of them 1.2 million."""
    rng = np.random.default_rng(0)
    different = rng.normal(size=(2000, 16)).astype(np.float32)
    data, queries = different.copy(), None
    data[rng.permutation(2000)[:600]] = 0 if kind == "zero" else different[0]
    if kind == "only in the index":
        data = 0.01 * data + different[0]
        data[:600] = different[0]
        queries = (different[0] + 0.001 * different).astype(np.float32)
    if kind == "two thousand of ten":
        data = different[rng.integers(10, size=2000)]
    counted: list[int] = []
    plain = module.exact
    monkeypatch.setattr(
        module, "exact", lambda q, index, numbers, rows: (counted.append(len(rows)), plain(q, index, numbers, rows))[1]
    )
    own = np.arange(2000) if queries is None else None
    found, _ = search(data if queries is None else queries, vectors(data, distance), 5, own)
    assert sum(counted) < 20 * 2000
    if kind == "equal":  # of the group the lowest others come first
        group = np.flatnonzero((data == different[0]).all(axis=1))
        for q in group[:9]:
            assert found[q].tolist() == [row for row in group.tolist() if row != q][:5]
