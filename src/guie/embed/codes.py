"""Embeddings in fewer bytes: int8 numbers with one scale, and the signs of the numbers as bits.

The scale is fitted on training embeddings, so that a photo's code never depends on the photos beside it.

int8 has one scale for all dimensions. So the dot product of two codes is that of the embeddings times a constant, and a
vector store can search the codes directly. A scale for each dimension gains nothing if the codes are scaled back before
the search. If they are not, it changes the weights of the dimensions, which helped on one set and harmed on two. Bits
are the signs of the unchanged numbers. With the mean subtracted first, they were as good on one set and much worse on
another; after a rotation, they were worse on both (`tests/benchmarks/take_away.md`).
"""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np

from guie.embed.search import l2_normalised

LARGEST = 127  # of an int8 code; -128 is not used, so that codes are symmetric about 0
N_FITTED = 200_000  # embeddings that codes are fitted on, evenly spaced among all
N_CANDIDATES = 100  # found by their bits before they are ordered by int8


@dataclass(frozen=True)
class Codes:
    """Converts unit embeddings to int8 codes and back.

    Attributes:
        scale: An int8 code of 1 stands for this much of an embedding's number.
    """

    scale: float

    def to_int8(self, embeddings: np.ndarray) -> np.ndarray:
        """int8 [n, dim] of embeddings, float [n, dim]: number / scale, rounded, at most 127 either way."""
        steps = np.rint(l2_normalised(embeddings) / np.float32(self.scale))
        return np.clip(steps, -LARGEST, LARGEST).astype(np.int8)

    def from_int8(self, codes: np.ndarray) -> np.ndarray:
        """float32 [n, dim] that the codes stand for."""
        return codes.astype(np.float32) * np.float32(self.scale)


def fit_codes(embeddings: np.ndarray) -> Codes:
    """Fits the scale of the codes on embeddings.

    The scale maps the largest number to 127, so that none of these embeddings is clipped.

    Args:
        embeddings: float [n, dim], n >= 1; normalised here. If there are more than `N_FITTED`, only evenly spaced ones
            are read.

    Raises:
        ValueError: there are no embeddings, or one is not finite.
    """
    if not len(embeddings):
        raise ValueError("codes are fitted on embeddings, and there are none")
    unit = l2_normalised(embeddings[:: -(-len(embeddings) // N_FITTED)])
    if not np.isfinite(unit).all():
        raise ValueError("an embedding is not finite; the stage that made it has diverged: lower its lr")
    return Codes(float(np.abs(unit).max()) / LARGEST or 1.0)


def has_bits(dim: int) -> bool:
    """Whether embeddings of `dim` numbers have binary codes. These are whole bytes."""
    return dim % 8 == 0


def to_bits(embeddings: np.ndarray) -> np.ndarray:
    """uint8 [n, dim / 8]: whether each number is above 0, the first dimension in the highest bit.

    These are the codes that sentence-transformers calls `ubinary`.

    Raises:
        ValueError: dim is no multiple of 8.
    """
    if not has_bits(embeddings.shape[1]):
        raise ValueError(f"binary codes need a multiple of 8 dimensions; these embeddings have {embeddings.shape[1]}")
    return np.packbits(embeddings > 0, axis=1)


def signs(bits: np.ndarray) -> np.ndarray:
    """Converts binary codes, uint8 [n, dim / 8], to float32 [n, dim] of -1 and 1. For a Hamming distance of h, the
    cosine of two rows is 1 - 2 h / dim."""
    return np.unpackbits(bits, axis=1).astype(np.float32) * 2 - 1


def nearest_by_bits(queries: np.ndarray, index: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k codes of the smallest Hamming distance, by faiss.

    Args:
        queries: uint8 [n_queries, dim / 8].
        index: uint8 [n_index, dim / 8].
        k: At most n_index are found.

    Returns:
        Rows, int64 [n_queries, k'], and distances, int32 [n_queries, k'], k' = min(k, n_index). The order of equal
        distances is not defined.
    """
    flat = faiss.IndexBinaryFlat(8 * index.shape[1])
    flat.add(np.ascontiguousarray(index))
    distances, rows = flat.search(np.ascontiguousarray(queries), min(k, len(index)))
    return rows, distances


def nearest_in_two_steps(bits: np.ndarray, int8: np.ndarray, k: int, n_candidates: int = N_CANDIDATES) -> np.ndarray:
    """The k nearest of each row among the others: candidates by their bits, ordered by the dot product of int8 codes.

    Args:
        bits: uint8 [n, dim / 8].
        int8: int8 [n, dim], of the same rows.
        k: Number of neighbours.
        n_candidates: Candidates for each row.

    Returns:
        int64 [n, k], nearest first, of equal products the lower row; -1 where there are fewer.
    """
    found, _ = nearest_by_bits(bits, bits, n_candidates + 1)
    nearest = np.full((len(bits), k), -1, dtype=np.int64)
    wide = int8.astype(np.int32)
    for row, candidates in enumerate(found):
        others = candidates[candidates != row][:n_candidates]
        order = np.lexsort((others, -(wide[others] @ wide[row])))[:k]
        nearest[row, : len(order)] = others[order]
    return nearest
