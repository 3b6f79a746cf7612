"""Equal vectors and exact sums. Both keep the search fast where thousands of index rows are equally near.

Equal rows have equal similarities to everything. So equal queries are searched once, and of equal index rows only the
first k can be among the k nearest. A float64 sum of numbers with few binary digits is exact. Then every order of
summation, also that of a matrix product, gives the sum that the rule of the search asks for.
"""

from __future__ import annotations

import numpy as np

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # of Fibonacci hashing, Knuth 1973, section 6.4
N_DIGITS = 52  # binary digits of a float64, less one, because the bound on the sums is itself rounded
NO_DIGIT = 10**6  # last digit of a row of zeros


def distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers the different rows in the order in which they first occur.

    Args:
        rows: float32 [n, dim]; 0 and -0 are the same.

    Returns:
        First row of each number, int64 [n_distinct], ascending, and the number of each row, int64 [n].
    """
    digests = _digests(rows)
    first, number = _numbered(digests)
    if not np.array_equal(rows[first[number]], rows):  # two rows share a digest: compare the rows themselves
        _, digests = np.unique(rows + np.float32(0), axis=0, return_inverse=True)
        first, number = _numbered(digests)
    return first, number


def first_copies(rows: np.ndarray, k: int) -> np.ndarray:
    """int64, ascending: the rows of float32 [n, dim] that have fewer than `k` equal rows before them."""
    first, number = distinct(rows)
    if len(first) == len(rows):
        return np.arange(len(rows))
    order = np.argsort(number, kind="stable")
    n_before = np.empty(len(rows), dtype=np.int64)
    n_before[order] = np.arange(len(rows)) - np.searchsorted(number[order], number[order])
    return np.flatnonzero(n_before < k)


def last_digit(rows: np.ndarray) -> np.ndarray:
    """For each row the largest e such that all its numbers are multiples of 2 ** e, int64 [n]; NO_DIGIT for a row of
    zeros.

    Args:
        rows: float32 [n, dim], finite.
    """
    fraction, exponent = np.frexp(rows)
    digits = np.abs(fraction * 2.0**24).astype(np.int64)  # float32 has 24 binary digits
    _, n_trailing = np.frexp((digits & -digits).astype(np.float64))
    return np.where(digits > 0, exponent.astype(np.int64) - 24 + n_trailing - 1, NO_DIGIT).min(axis=1, initial=NO_DIGIT)


def is_exact(queries: np.ndarray, last: int, scale: np.ndarray, distance: str) -> np.ndarray:
    """Whether float64 similarities of a query are free of rounding in any order of summation, bool [n].

    Args:
        queries: int64 [n], `last_digit` of each query.
        last: The smallest `last_digit` of the index rows.
        scale: float64 [n], a bound on the absolute value of every partial sum.
        distance: `cosine` sums products of a query's and a row's numbers; `euclidean` also squares of each.
    """
    unit = queries + last if distance == "cosine" else 2 * np.minimum(queries, last)
    return np.ceil(np.log2(np.maximum(scale, 1e-300))) - unit <= N_DIGITS


def _numbered(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `distinct`, for the digests of the rows, uint64 [n]."""
    _, first, number = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return first[order], rank[number]


def _digests(rows: np.ndarray) -> np.ndarray:
    """64 bits of each row, uint64 [n]; equal rows have equal digests."""
    bits = (rows + np.float32(0)).view(np.uint32)  # -0 + 0 is 0
    digests = np.zeros(len(rows), dtype=np.uint64)
    for column in bits.T:
        digests ^= column
        digests *= MULTIPLIER
        digests ^= digests >> np.uint64(32)
    return digests
