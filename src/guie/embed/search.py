"""Exact nearest neighbours by blocks, of arrays in memory and of shards on disk, with one rule for ties.

The rule: the similarity is summed in float64 over the dimensions, from the first to the last; of equal similarities the
lower row comes first. So the order does not depend on blocks, shards, threads or the library that finds the candidates.
The rule costs little time, because only similarities that float32 cannot order are computed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import faiss
import numpy as np

from guie.embed.ties import distinct, first_copies, is_exact, last_digit
from guie.shown import progress

BLOCK = 131_072  # index rows searched at a time: 34 MB at 64-d
SPARE = 3  # extra candidates; they show whether rounding in float32 may have left out a nearer row
TIE_BLOCK = 4096  # index rows at a time in the second search, in float64, where rounding may have left out a row
N_TIED = 1024  # queries at a time in the second search
# Euclidean distances: the squares of ten million numbers of MAX_NUMBER add up to less than float32's largest number.
MAX_NUMBER = 1e15
MIN_NUMBER = 1e-15
N_EXACT = 2**23  # float64 numbers at a time in the exact similarities: 64 MB


@dataclass(frozen=True)
class Vectors:
    """Vectors in one or several arrays, numbered consecutively over the arrays.

    Attributes:
        parts: float [n_i, dim] each; memory-mapped ones are read block by block.
        distance: `cosine`, which normalises the vectors, or `euclidean`, which does not. The host uses Euclidean
            distances of the model's outputs.
        chosen: int64 [n], ascending: the rows of the arrays that take part, renumbered from 0. None takes all.
    """

    parts: tuple[np.ndarray, ...]
    distance: str = "cosine"
    chosen: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of vectors."""
        return sum(len(part) for part in self.parts) if self.chosen is None else len(self.chosen)

    def blocks(self, n_rows: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yields the number of each block's first row, and the block, float32 [<= n_rows, dim].

        Raises:
            ValueError: a vector that is not finite.
        """
        for first, block in self._read(n_rows):
            is_finite = np.isfinite(block).all(axis=1)
            if not is_finite.all():
                row = first + int(np.argmin(is_finite))
                raise ValueError(
                    f"embedding {row} is not finite; if a stage of a recipe made it, that stage has diverged: lower "
                    "its lr"
                )
            yield first, block

    def whole(self) -> np.ndarray:
        """All rows, float32 [n, dim].

        Raises:
            ValueError: a vector that is not finite.
        """
        nothing = np.empty((0, *self.parts[0].shape[1:]), np.float32)
        return np.concatenate([block for _, block in self.blocks(BLOCK)] or [nothing])

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """float32 [n, dim]: the rows of these numbers, normalised for `cosine`."""
        return self._prepared(self.raw(numbers))

    def raw(self, numbers: np.ndarray) -> np.ndarray:
        """float [n, dim]: the rows of these numbers as they are stored."""
        numbers = numbers if self.chosen is None else self.chosen[numbers]
        if len(self.parts) == 1:
            return self.parts[0][numbers]
        found = np.empty((len(numbers), self.parts[0].shape[1]), dtype=np.result_type(*self.parts))
        start = 0
        for part in self.parts:
            is_here = (numbers >= start) & (numbers < start + len(part))
            found[is_here] = part[numbers[is_here] - start]
            start += len(part)
        return found

    def _read(self, n_rows: int) -> Iterator[tuple[int, np.ndarray]]:
        if self.chosen is not None:
            yield from (
                (first, self.rows(np.arange(first, min(first + n_rows, len(self)))))
                for first in range(0, len(self), n_rows)
            )
            return
        start = 0
        for part in self.parts:
            yield from (
                (start + first, self._prepared(part[first : first + n_rows])) for first in range(0, len(part), n_rows)
            )
            start += len(part)

    def _prepared(self, block: np.ndarray) -> np.ndarray:
        return l2_normalised(block) if self.distance == "cosine" else _as_float32(block)


def l2_normalised(vectors: np.ndarray) -> np.ndarray:
    """float32 [n, dim]: each row divided by its length, also where the length is very large or small. Rows of zeros
    stay zero."""
    vectors = np.asarray(vectors)
    if vectors.dtype.kind != "f" or vectors.dtype.itemsize < 4:
        vectors = vectors.astype(np.float32)
    largest = np.maximum(vectors.max(axis=1, keepdims=True, initial=0), -vectors.min(axis=1, keepdims=True, initial=0))
    with np.errstate(invalid="ignore"):  # infinity / infinity; `Vectors.blocks` refuses such numbers
        if ((largest > 1e9) | (largest < 1e-9)).any():  # squares overflow float32 at 1e38 and underflow at 1e-38
            _, exponent = np.frexp(largest)
            vectors = np.ldexp(vectors, -exponent)  # a power of two, so that the scaling is exact
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _as_float32(block: np.ndarray) -> np.ndarray:
    """The block as float32, not normalised, for Euclidean distances.

    Raises:
        ValueError: numbers whose squares float32 cannot hold.
    """
    largest = max(float(block.max(initial=0)), -float(block.min(initial=0)))
    if MAX_NUMBER < largest < np.inf or 0 < largest < MIN_NUMBER:
        raise ValueError(
            f"the largest number of the embeddings is {largest:.3g}, whose square float32 cannot hold; multiply all by "
            "one number, which changes no neighbour"
        )
    return np.ascontiguousarray(block, dtype=np.float32)


def vectors(
    arrays: np.ndarray | Sequence[np.ndarray], distance: str = "cosine", chosen: np.ndarray | None = None
) -> Vectors:
    """Vectors of one array, or of several (shards) one after the other; all rows, or the chosen ones.

    Raises:
        ValueError: arrays that are not [n, dim] with one dim, numbers that are not real, or an unknown distance.
    """
    parts = (arrays,) if isinstance(arrays, np.ndarray) else tuple(arrays)
    if distance not in ("cosine", "euclidean"):
        raise ValueError(f"distance {distance!r} is neither 'cosine' nor 'euclidean'")
    for part in parts:
        if part.dtype.kind not in "fiub":
            raise ValueError(f"embeddings are of type {part.dtype}, must be real numbers")
    shapes = sorted({part.shape[1:] for part in parts})
    if len(shapes) != 1 or len(shapes[0]) != 1:
        raise ValueError(
            "embeddings must be arrays [n_images, dim] of one dim; these have the shapes "
            f"{[part.shape for part in parts]}"
        )
    is_part = chosen is not None and len(chosen) < sum(len(part) for part in parts)
    return Vectors(parts, distance, chosen if is_part else None)


def search(
    queries: np.ndarray, index: Vectors, k: int, own_rows: np.ndarray | None = None, is_quiet: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest index rows of each query, exactly, in the order of the rule above.

    Args:
        queries: float [n_queries, dim], normalised if the index is.
        index: What is searched.
        k: Number of neighbours.
        own_rows: int64 [n_queries], the query's own row in the index, which is left out; -1 where it has none. None: no
            query has one.
        is_quiet: Without a progress bar.

    Returns:
        Rows, int64 [n_queries, k], -1 where the index has fewer; and their similarities, float32 [n_queries, k]:
        cosines, or negative squared distances, to the rounding of float32.

    Raises:
        ValueError: a vector that is not finite, or a query of another dim.
    """
    if not len(index) or queries.shape[1:] != index.parts[0].shape[1:]:
        raise ValueError(
            f"queries of shape {queries.shape} cannot search {len(index)} index vectors of shape "
            f"{index.parts[0].shape[1:]}"
        )
    asking = Vectors((queries,), index.distance).whole()
    first, number = distinct(asking)  # equal queries have equal neighbours, but for their own rows
    n_wanted = min(k + (own_rows is not None), len(index))
    keys, rows = _nearest(asking[first], index, n_wanted, is_quiet)
    keys, rows = keys[number], rows[number]
    if own_rows is not None:
        keys, rows = _own_last(keys, rows, np.asarray(own_rows, dtype=np.int64))
    keys, rows = keys[:, :k], rows[:, :k]
    pad = ((0, 0), (0, k - keys.shape[1]))
    return np.pad(rows, pad, constant_values=-1), np.pad(keys, pad, constant_values=-np.inf).astype(np.float32)


def _own_last(keys: np.ndarray, rows: np.ndarray, own_rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Moves each query's own row to the end, as row -1 with similarity -inf.

    Args:
        keys: float64 [n_queries, k].
        rows: int64 [n_queries, k].
        own_rows: int64 [n_queries]; -1 where the query has none.
    """
    is_own = rows == own_rows[:, None]
    order = np.argsort(is_own, axis=1, kind="stable")
    others = np.take_along_axis(np.where(is_own, -np.inf, keys), order, axis=1)
    return others, np.take_along_axis(np.where(is_own, -1, rows), order, axis=1)


def _nearest(queries: np.ndarray, index: Vectors, k: int, is_quiet: bool) -> tuple[np.ndarray, np.ndarray]:
    """Similarities, float64 [n, k], and rows of the k <= len(index) nearest, in the order of the rule."""
    n_candidates = min(k + SPARE, len(index))
    near, candidates, longest = _candidates(queries, index, n_candidates, is_quiet)
    error = _rounding(queries, longest, index.distance, 2.0**-24)
    keys, rows = _in_order(queries, index, near, candidates, error)
    keys, rows = keys[:, :k], rows[:, :k]
    if n_candidates < len(index):
        is_unsure = keys[:, -1] <= near[:, -1] + 2 * error  # no other row is nearer than the last candidate
        for part in np.array_split(np.flatnonzero(is_unsure), -(-int(is_unsure.sum()) // N_TIED) or 1):
            if len(part):
                keys[part], rows[part] = _among_all(queries[part], index, k, longest)
    return keys, rows


def _candidates(queries: np.ndarray, index: Vectors, k: int, is_quiet: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """The k nearest by faiss, which does not order ties by the rule.

    Returns:
        Similarities in descending order, float64 [n, k]; rows, int64 [n, k]; and the length of the longest index
        vector.
    """
    metric, sign = (faiss.METRIC_INNER_PRODUCT, 1) if index.distance == "cosine" else (faiss.METRIC_L2, -1)
    best = faiss.ResultHeap(len(queries), k, keep_max=True)
    longest = 0.0
    with progress(
        total=len(index), desc="search", unit="image", unit_scale=True, disable=is_quiet or len(index) <= 8 * BLOCK
    ) as bar:
        for first, block in index.blocks(BLOCK):
            longest = max(longest, float(np.sqrt(np.einsum("nd,nd->n", block, block).max())))
            values, rows = faiss.knn(queries, block, min(k, len(block)), metric=metric)
            best.add_result(sign * values, rows + first)
            bar.update(len(block))
    best.finalize()
    return best.D.astype(np.float64), best.I, longest


def exact(queries: np.ndarray, index: Vectors, numbers: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Similarities of pairs in float64, summed in the order of the rule.

    Args:
        queries: float32 [n, dim], prepared as the index is.
        index: The index.
        numbers: int64 [n_pairs], the query of each pair.
        rows: int64 [n_pairs], the index row of each pair.

    Returns:
        float64 [n_pairs].
    """
    keys = np.empty(len(rows))
    step = max(1, N_EXACT // queries.shape[1])
    for first in range(0, len(rows), step):
        here, there = queries[numbers[first : first + step]].astype(np.float64), index.rows(rows[first : first + step])
        terms = here * there if index.distance == "cosine" else -((here - there) ** 2)
        keys[first : first + step] = np.cumsum(terms, axis=1)[:, -1]  # cumsum adds in this order; sum() need not
    return keys


def _in_order(
    queries: np.ndarray, index: Vectors, near: np.ndarray, rows: np.ndarray, error: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Similarities and rows, the nearest first; of equal similarities the lower row. Similarities that are too close
    to order are computed again.

    Args:
        queries: float32 [n, dim].
        index: The index.
        near: float64 [n, c], similarities in descending order, wrong by at most `error`.
        rows: int64 [n, c].
        error: float64 [n].
    """
    is_close = np.zeros(near.shape, dtype=bool)
    is_close[:, :-1] = near[:, :-1] - near[:, 1:] <= 2 * error[:, None]
    is_close[:, 1:] |= is_close[:, :-1]
    keys = near.copy()
    keys[is_close] = exact(queries, index, np.nonzero(is_close)[0], rows[is_close])
    order = np.lexsort((rows, -keys), axis=-1)
    return np.take_along_axis(keys, order, axis=1), np.take_along_axis(rows, order, axis=1)


def _among_all(queries: np.ndarray, index: Vectors, k: int, longest: float) -> tuple[np.ndarray, np.ndarray]:
    """As `_nearest`, with all similarities in float64: for the few queries with near-ties at rank k."""
    scale = _scale(queries, longest, index.distance)
    rounding = 2 * _rounding(queries, longest, index.distance, 2.0**-53)
    digits = last_digit(queries)
    slack = np.zeros(len(queries))
    best = _BestSoFar.of(len(queries), k)
    asking = queries.astype(np.float64)
    for first, block in index.blocks(TIE_BLOCK):
        here = first_copies(block, k)
        block = block[here]
        if not slack.all():
            slack = np.where(is_exact(digits, int(last_digit(block).min()), scale, index.distance), slack, rounding)
        best.add(all_similarities(asking, block.astype(np.float64), index.distance), here + first, slack)
    return best.exact_order(queries, index, slack)


@dataclass(frozen=True)
class _BestSoFar:
    """The rows that may be among the k nearest of each query, after some blocks of the index.

    The lists differ in length, because all near-ties at rank k are kept until the end.

    Attributes:
        k: Number of neighbours.
        keys: Similarities, float64 [n_found] for each query.
        rows: Index rows, int64 [n_found] for each query, ascending.
    """

    k: int
    keys: list[np.ndarray]
    rows: list[np.ndarray]

    @classmethod
    def of(cls, n_queries: int, k: int) -> _BestSoFar:
        """Empty lists for `n_queries` queries."""
        return cls(k, [np.empty(0)] * n_queries, [np.empty(0, dtype=np.int64)] * n_queries)

    def add(self, near: np.ndarray, numbers: np.ndarray, slack: np.ndarray) -> None:
        """Adds the next block.

        Args:
            near: float64 [n_queries, n_rows], similarities to the block.
            numbers: int64 [n_rows], index rows of the block, ascending and larger than all rows of earlier blocks.
            slack: float64 [n_queries], twice the error of a similarity; 0 where all are exact.
        """
        floor = np.array([found.min() if len(found) >= self.k else -np.inf for found in self.keys]) - slack
        for q in range(len(near)):
            new = np.flatnonzero(near[q] >= floor[q])
            keys = np.append(self.keys[q], near[q, new])
            rows = np.append(self.rows[q], numbers[new])
            self.keys[q], self.rows[q] = _best(keys, rows, self.k, slack[q])

    def exact_order(self, queries: np.ndarray, index: Vectors, slack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Similarities, float64 [n_queries, k], and rows of the k nearest, in the order of the rule.

        Args:
            queries: float32 [n_queries, dim].
            index: The index.
            slack: float64 [n_queries]; similarities are computed again where it is not 0.
        """
        keys = np.empty((len(queries), self.k))
        rows = np.empty((len(queries), self.k), dtype=np.int64)
        for q, found in enumerate(self.rows):
            sure = exact(queries, index, np.full(len(found), q), found) if slack[q] else self.keys[q]
            order = np.lexsort((found, -sure))[: self.k]
            keys[q] = sure[order]
            rows[q] = found[order]
        return keys, rows


def _best(keys: np.ndarray, rows: np.ndarray, k: int, slack: float) -> tuple[np.ndarray, np.ndarray]:
    """The similarities of one query that may be among the k largest if each is wrong by at most half of `slack`. `rows`
    is ascending."""
    if len(keys) <= k:
        return keys, rows
    floor = np.partition(keys, -k)[-k] - slack
    kept = np.flatnonzero(keys >= floor)
    if not slack and len(kept) > k:  # exact ties at rank k: the lower rows
        above = kept[keys[kept] > floor]
        kept = np.sort(np.append(above, kept[keys[kept] == floor][: k - len(above)]))
    return keys[kept], rows[kept]


def all_similarities(queries: np.ndarray, block: np.ndarray, distance: str) -> np.ndarray:
    """Similarities of all pairs, [n_queries, n_rows], in the arrays' own precision: cosines of unit vectors, or
    negative squared distances."""
    products = queries @ block.T
    if distance == "cosine":
        return products
    return 2 * products - (queries**2).sum(axis=1)[:, None] - (block**2).sum(axis=1)[None, :]


def _rounding(queries: np.ndarray, longest: float, distance: str, unit: float) -> np.ndarray:
    """Bound on the error of a computed similarity, float64 [n_queries]: dim + 4 rounding errors, each of at most `unit`
    times `_scale`."""
    return (queries.shape[1] + 4) * unit * _scale(queries, longest, distance)


def _scale(queries: np.ndarray, longest: float, distance: str) -> np.ndarray:
    """Bound on the absolute value of every partial sum of a similarity, float64 [n_queries]."""
    lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
    return lengths * longest if distance == "cosine" else (lengths + longest) ** 2
