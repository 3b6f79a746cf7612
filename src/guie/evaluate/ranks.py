"""Ranks of the relevant images of each query, from which all retrieval metrics are computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from guie.embed.search import BLOCK, Vectors, all_similarities, exact, search
from guie.embed.ties import distinct
from guie.shown import progress

N_FOUND = 2**22  # neighbours held at a time: 32 MB of rows
N_SIMILARITIES = 2**23  # similarities held at a time where every rank is wanted: 32 MB, twice
SLACK = 4e-6  # times the product of the lengths and (dim / 64 + 1), a bound on a float32 similarity's error


class Relevance(Protocol):
    """Which index rows are relevant to which queries, both given by number."""

    def counts(self) -> np.ndarray:
        """int64 [n_queries]: relevant index images, the query's own row among them if it is in the index."""

    def is_relevant(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """bool [n, k] for queries [n] and index rows [n, k]."""

    def of(self, query: int) -> np.ndarray:
        """int64 [n_relevant]: the index rows relevant to one query, ascending."""


@dataclass(frozen=True)
class ByLabel:
    """Equal labels are relevant to each other; a negative label is relevant to nothing (a distractor).

    Attributes:
        queries: int64 [n_queries].
        index: int64 [n_index].
    """

    queries: np.ndarray
    index: np.ndarray

    @cached_property
    def _groups(self) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(self.index, kind="stable")
        return order, self.index[order]

    def _bounds(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        _, ordered = self._groups
        first, last = np.searchsorted(ordered, labels, "left"), np.searchsorted(ordered, labels, "right")
        return first, np.where(labels < 0, first, last)

    def counts(self) -> np.ndarray:
        """See Relevance."""
        first, last = self._bounds(self.queries)
        return last - first

    def is_relevant(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """See Relevance."""
        asked = self.queries[queries][:, None]
        return (self.index[rows] == asked) & (asked >= 0)

    def of(self, query: int) -> np.ndarray:
        """See Relevance."""
        first, last = self._bounds(self.queries[query : query + 1])
        return self._groups[0][first[0] : last[0]]


@dataclass(frozen=True)
class ByPair:
    """Pairs as a solution file lists them, without repetition, sorted by query and row.

    Attributes:
        query: int64 [n_pairs].
        row: int64 [n_pairs].
        n_queries: Number of queries.
        n_index: Number of index rows.
    """

    query: np.ndarray
    row: np.ndarray
    n_queries: int
    n_index: int

    def counts(self) -> np.ndarray:
        """See Relevance."""
        return np.bincount(self.query, minlength=self.n_queries)

    def is_relevant(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """See Relevance."""
        pairs, wanted = self.query * self.n_index + self.row, queries[:, None] * self.n_index + rows
        place = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
        return pairs[place] == wanted if len(pairs) else np.zeros(rows.shape, dtype=bool)

    def of(self, query: int) -> np.ndarray:
        """See Relevance."""
        first, last = np.searchsorted(self.query, [query, query + 1])
        return self.row[first:last]


@dataclass(frozen=True)
class Ranks:
    """Ranks of the relevant images that were found, in the order of the queries.

    Attributes:
        n_relevant: int64 [n_queries], relevant images in the index without the query itself.
        query: int64 [n_hits], number of each hit's query, ascending.
        rank: int64 [n_hits], rank of each hit, from 1, ascending within a query.
        depth: int64 [n_queries], the rank down to which hits are known.
    """

    n_relevant: np.ndarray
    query: np.ndarray
    rank: np.ndarray
    depth: np.ndarray


def ranks_within(
    queries: np.ndarray,
    index: Vectors,
    relevance: Relevance,
    depth: int,
    own_rows: np.ndarray | None = None,
    is_quiet: bool = False,
) -> Ranks:
    """Ranks of the relevant images down to `depth` or the query's number of relevant images, whichever is deeper.

    Queries with many relevant images are searched together, so that one large class does not make the search deep for
    all. Queries without relevant images are not searched.

    Args:
        queries: float [n_queries, dim].
        index: What is searched.
        relevance: Which index rows are relevant.
        depth: Least number of ranks.
        own_rows: int64 [n_queries], see `search`.
        is_quiet: Without a progress bar.
    """
    own = np.full(len(queries), -1) if own_rows is None else own_rows
    n_relevant = _without_own(relevance, own)
    deep = np.minimum(np.maximum(n_relevant, depth), len(index))
    asking = np.flatnonzero(n_relevant > 0)
    found_query = [np.empty(0, dtype=np.int64)]
    found_rank = [np.empty(0, dtype=np.int64)]
    with progress(total=len(asking), desc="queries", disable=is_quiet or len(asking) * len(index) < 2**30) as bar:
        for part in _of_like_depth(asking, deep):
            rows, _ = search(queries[part], index, int(deep[part[-1]]), own[part], is_quiet=bar.disable)
            is_hit = relevance.is_relevant(part, rows) & (rows >= 0)
            at, place = np.nonzero(is_hit)
            found_query.append(part[at])
            found_rank.append(place + 1)
            bar.update(len(part))
    query, rank = np.concatenate(found_query), np.concatenate(found_rank)
    order = np.lexsort((rank, query))
    return Ranks(n_relevant, query[order], rank[order], deep)


def _of_like_depth(queries: np.ndarray, deep: np.ndarray) -> Iterator[np.ndarray]:
    """Blocks of queries to search together, int64 [n], from the shallowest to the deepest.

    A block is searched as deep as its last query, which is its deepest. That is at most twice as deep as its first.

    Args:
        queries: int64 [n_asking], numbers of the queries to deal out.
        deep: int64 [n_queries], how many ranks each needs.
    """
    waiting = queries[np.argsort(deep[queries], kind="stable")]
    while len(waiting):
        least = deep[waiting[0]]
        n = min(max(1, N_FOUND // int(least)), int(np.searchsorted(deep[waiting], 2 * least, "right")))
        yield waiting[:n]
        waiting = waiting[n:]


def all_ranks(
    queries: np.ndarray,
    index: Vectors,
    relevance: Relevance,
    own_rows: np.ndarray | None = None,
    is_quiet: bool = False,
) -> Ranks:
    """The ranks of all relevant images, however far down; arguments as of `ranks_within`.

    All similarities of a block of queries are computed in float32. Those too close to a relevant image's to order are
    computed again exactly, so that the order is that of `search`.
    """
    own = np.full(len(queries), -1) if own_rows is None else own_rows
    n_relevant = _without_own(relevance, own)
    asking = Vectors((queries,), index.distance).whole()
    contents = distinct(index.whole())
    n_rows = max(1, N_SIMILARITIES // len(index))
    found = [np.empty(0, dtype=np.int64)] * len(queries)
    for first in progress(
        range(0, len(queries), n_rows), desc="queries", disable=is_quiet or len(queries) * len(index) < 2**30
    ):
        part = asking[first : first + n_rows]
        near, longest = _nearness(part, index)
        for q in np.flatnonzero(n_relevant[first : first + n_rows] > 0):
            found[first + q] = _places(
                part[q], index, contents, near[q], relevance.of(first + q), int(own[first + q]), longest
            )
    query = np.repeat(np.arange(len(queries)), [len(ranks) for ranks in found])
    return Ranks(n_relevant, query, np.concatenate(found), np.full(len(queries), len(index)))


def _nearness(asking: np.ndarray, index: Vectors) -> tuple[np.ndarray, float]:
    """Similarities of some queries to the whole index, to the rounding of float32.

    Args:
        asking: float32 [n, dim], prepared as the index is.
        index: What is searched.

    Returns:
        float32 [n, n_index], and the length of the longest index vector.
    """
    near = np.empty((len(asking), len(index)), dtype=np.float32)
    longest = 0.0
    for start, block in index.blocks(BLOCK):
        near[:, start : start + len(block)] = all_similarities(asking, block, index.distance)
        longest = max(longest, float(np.linalg.norm(block, axis=1).max()))
    return near, longest


def _places(
    asking: np.ndarray,
    index: Vectors,
    contents: tuple[np.ndarray, np.ndarray],
    near: np.ndarray,
    relevant: np.ndarray,
    own: int,
    longest: float,
) -> np.ndarray:
    """The ranks of one query's relevant rows, ascending. `contents` is the result of `distinct` for the index."""
    relevant = relevant[relevant != own]
    keys = _exact_once(asking, index, contents, relevant)
    length = float(np.linalg.norm(asking))
    slack = (
        SLACK * (len(asking) / 64 + 1) * (length * longest if index.distance == "cosine" else (length + longest) ** 2)
    )
    rows = np.flatnonzero(near >= keys.min() - slack)
    rows = rows[rows != own]
    values = near[rows].astype(np.float64)
    if slack:  # 0 for a query of length zero, all of whose cosines are 0
        ordered = np.concatenate([[-np.inf], np.sort(keys), [np.inf]])
        after = np.searchsorted(ordered, values)
        is_close = (ordered[after] - values <= slack) | (values - ordered[after - 1] <= slack)
        values[is_close] = _exact_once(asking, index, contents, rows[is_close])
    order = np.argsort(-values, kind="stable")  # rows are ascending, so of equal values the lower row comes first
    return np.flatnonzero(np.isin(rows[order], relevant)) + 1


def _exact_once(
    asking: np.ndarray, index: Vectors, contents: tuple[np.ndarray, np.ndarray], rows: np.ndarray
) -> np.ndarray:
    """Exact similarities of one query to index rows, float64 [n_rows]. Equal rows are computed once."""
    first, number = contents
    different, place = np.unique(number[rows], return_inverse=True)
    return exact(asking[None], index, np.zeros(len(different), dtype=np.int64), first[different])[place]


def _without_own(relevance: Relevance, own: np.ndarray) -> np.ndarray:
    """int64 [n_queries]: relevant index images without the query itself."""
    counts = relevance.counts()
    is_own = relevance.is_relevant(np.arange(len(own)), np.maximum(own, 0)[:, None])[:, 0] & (own >= 0)
    return counts - is_own
