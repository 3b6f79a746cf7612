"""Retrieval metrics of each query, float64 [n_queries], from the ranks of its relevant images. An image without
relevant images is no query, and its values are NaN.

Three different average precisions are called mAP. With R relevant images in the index, MAP@R looks at R ranks and
divides by R, mAP@100 looks at 100 and divides by min(R, 100), and the full mAP looks at all and divides by R.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from guie.embed.retrieval import K, host_precision
from guie.evaluate.ranks import Ranks

DEPTH = 100  # ranks that the metrics below need; R where that is more


def mp5(ranks: Ranks) -> np.ndarray:
    """The contest's precision, see `host_precision`."""
    is_correct = np.zeros((len(ranks.n_relevant), K), dtype=bool)
    is_first = ranks.rank <= K
    is_correct[ranks.query[is_first], ranks.rank[is_first] - 1] = True
    return host_precision(is_correct, ranks.n_relevant)


def recall_at(ranks: Ranks, k: int) -> np.ndarray:
    """R@k: 1 if a relevant image is among the first k, else 0."""
    return _share(_hits(ranks, np.full(len(ranks.n_relevant), k)) > 0, ranks.n_relevant > 0)


def r_precision(ranks: Ranks) -> np.ndarray:
    """Share of relevant images among the first R.

    Source: Musgrave et al. 2020, A Metric Learning Reality Check.
    """
    return _share(_hits(ranks, ranks.n_relevant), ranks.n_relevant)


def map_at_r(ranks: Ranks) -> np.ndarray:
    """Average precision over the first R ranks: sum of the precisions at the hits, divided by R.

    Source: Musgrave et al. 2020, eq. 3.
    """
    return _share(_precisions(ranks, ranks.n_relevant), ranks.n_relevant)


def map_at_100(ranks: Ranks) -> np.ndarray:
    """Average precision over the first 100 ranks, divided by min(R, 100).

    Source: Kaggle, Google Landmark Retrieval, evaluation page.
    """
    limit = np.full(len(ranks.n_relevant), 100)
    return _share(_precisions(ranks, limit), np.minimum(ranks.n_relevant, 100))


def full_map(ranks: Ranks) -> np.ndarray:
    """Average precision over the whole index; needs the ranks of all relevant images.

    Raises:
        ValueError: `ranks` does not have all of them.
    """
    _need_all(ranks)
    return _share(_precisions(ranks, ranks.depth), ranks.n_relevant)


def full_map_with_self(ranks: Ranks) -> np.ndarray:
    """GPR1200's published mAP: as `full_map`, but the query itself counts as a hit at rank 1. It is higher, and never
    0.

    Raises:
        ValueError: `ranks` does not have all relevant images.

    Source: Visual-Computing/GPR1200, eval/utils.py, where the query is in the index it searches.
    """
    _need_all(ranks)
    place = _place(ranks)
    total = 1 + np.bincount(ranks.query, (place + 1) / (ranks.rank + 1), minlength=len(ranks.n_relevant))
    return np.where(ranks.n_relevant > 0, total / (ranks.n_relevant + 1), np.nan)


METRICS: dict[str, Callable[[Ranks], np.ndarray]] = {
    "mp5": mp5,
    "r1": lambda ranks: recall_at(ranks, 1),
    "r5": lambda ranks: recall_at(ranks, 5),
    "r10": lambda ranks: recall_at(ranks, 10),
    "map_at_r": map_at_r,
    "r_precision": r_precision,
    "map_at_100": map_at_100,
}
FULL_METRICS = METRICS | {"full_map": full_map, "full_map_with_self": full_map_with_self}


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _hits(ranks: Ranks, limit: np.ndarray) -> np.ndarray:
    """Hits within the query's limit, int64 [n_queries]."""
    return np.bincount(ranks.query[ranks.rank <= limit[ranks.query]], minlength=len(limit))


def _place(ranks: Ranks) -> np.ndarray:
    """For each hit, its position among the hits of its query: 1 for the first."""
    return np.arange(len(ranks.query)) - np.searchsorted(ranks.query, ranks.query) + 1


def _precisions(ranks: Ranks, limit: np.ndarray) -> np.ndarray:
    """Sum of the precisions at the hits within the query's limit, float64 [n_queries]."""
    is_in = ranks.rank <= limit[ranks.query]
    return np.bincount(ranks.query, np.where(is_in, _place(ranks) / ranks.rank, 0), minlength=len(limit))


def _need_all(ranks: Ranks) -> None:
    n_known = np.bincount(ranks.query, minlength=len(ranks.n_relevant))
    if (n_known < ranks.n_relevant).any():
        raise ValueError("the full mAP needs the ranks of all relevant images: compute them with all_ranks")
