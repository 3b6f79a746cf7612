"""Codes of int8 and bits, by loops over single numbers."""

import math

import numpy as np
import pytest

from guie.embed.codes import Codes, fit_codes, nearest_by_bits, nearest_in_two_steps, signs, to_bits


def embeddings(n: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def hamming(a: np.ndarray, b: np.ndarray) -> int:
    return sum(bin(int(x) ^ int(y)).count("1") for x, y in zip(a, b, strict=True))


def test_int8_by_hand():
    codes = Codes(0.25 / 100)
    given = np.array([[0.6, -0.8], [0.25, 0.0]], dtype=np.float32)  # lengths 1 and 0.25
    assert codes.to_int8(given).tolist() == [[127, -127], [127, 0]]  # 240 and 320 steps are clipped, and 400
    wide = Codes(0.01)
    assert wide.to_int8(given).tolist() == [[60, -80], [100, 0]] and wide.to_int8(given).dtype == np.int8
    np.testing.assert_allclose(wide.from_int8(wide.to_int8(given)), [[0.6, -0.8], [1.0, 0.0]], atol=1e-6)


def test_scale_fits_the_largest_number_and_rounds_by_half_a_step():
    given = embeddings(50)
    codes = fit_codes(3 * given)  # the length does not matter
    largest = max(abs(float(x)) for row in given for x in row)
    assert math.isclose(codes.scale, largest / 127, rel_tol=1e-6)
    back = codes.from_int8(codes.to_int8(given))
    assert max(abs(float(a - b)) for a, b in zip(back.ravel(), given.ravel(), strict=True)) <= codes.scale * 0.5001
    assert int(np.abs(codes.to_int8(given)).max()) == 127


def test_dot_products_of_codes_are_those_of_embeddings_times_a_constant():
    """With one scale a vector store may search codes without decoding them."""
    given = embeddings(40, 64)
    codes = fit_codes(given)
    int8 = codes.to_int8(given).astype(np.int64)
    got = np.argsort(-(int8 @ int8.T), axis=1, kind="stable")[:, :3]
    decoded = codes.from_int8(codes.to_int8(given)).astype(np.float64)
    np.testing.assert_array_equal(got, np.argsort(-(decoded @ decoded.T), axis=1, kind="stable")[:, :3])


def test_bits_by_hand():
    row = np.array([[0.1, -0.2, 0.0, 0.3, -1, -1, -1, 5, 1, -1, -1, -1, -1, -1, -1, -1]])
    assert to_bits(row).tolist() == [[0b10010001, 0b10000000]]
    assert signs(to_bits(row))[0].tolist() == [1, -1, -1, 1, -1, -1, -1, 1, 1, *[-1] * 7]
    with pytest.raises(ValueError, match="a multiple of 8 dimensions; these embeddings have 12"):
        to_bits(embeddings(2, 12))


def test_nearest_by_bits_counts_differing_bits():
    index, queries = to_bits(embeddings(60)), to_bits(embeddings(7, seed=1))
    rows, distances = nearest_by_bits(queries, index, 5)
    for query, found, told in zip(queries, rows, distances, strict=True):
        every = [hamming(query, code) for code in index]
        assert [every[row] for row in found] == told.tolist() == sorted(every)[:5]
    assert nearest_by_bits(queries, index[:3], 5)[0].shape == (7, 3)


def test_two_steps_order_candidates_by_int8():
    given = embeddings(80, 32)
    codes = fit_codes(given)
    int8, bits = codes.to_int8(given), to_bits(given)
    got = nearest_in_two_steps(bits, int8, 4, n_candidates=79)  # all others are candidates
    for i in range(80):
        products = [(-sum(int(a) * int(b) for a, b in zip(int8[i], int8[j], strict=True)), j) for j in range(80)]
        assert got[i].tolist() == [j for _, j in sorted(products) if j != i][:4]
    few = nearest_in_two_steps(bits, int8, 4, n_candidates=10)
    for i in range(80):
        distances = sorted(hamming(bits[i], bits[j]) for j in range(80) if j != i)
        assert i not in few[i] and max(hamming(bits[i], bits[j]) for j in few[i]) <= distances[10]
    assert (few != got).any()
    assert nearest_in_two_steps(bits[:3], int8[:3], 4).tolist()[0][2:] == [-1, -1]


def test_embeddings_that_cannot_be_coded():
    with pytest.raises(ValueError, match="there are none"):
        fit_codes(np.empty((0, 8), dtype=np.float32))
    with pytest.raises(ValueError, match="not finite"):
        fit_codes(np.array([[np.nan] * 8]))
    assert fit_codes(np.zeros((2, 8))).to_int8(np.zeros((1, 8))).tolist() == [[0] * 8]
