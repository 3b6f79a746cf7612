"""Embeddings that are built so that R@1, or NMI, sees no difference between two of them, and MAP@R does.

Both are on a circle: eight classes of eight images. After the toy example of Musgrave et al., ECCV 2020, figure 2.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from claims_statistics import Statistic, Value
from objectives_parts import Files
from objectives_training import mean, retrieval
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

N_CLASSES = 8
N_IMAGES = 8  # of each class
JITTER = 0.002  # of an angle, in radians
CLASSES = np.repeat(np.arange(N_CLASSES), N_IMAGES)
IDS = pd.DataFrame({"image_id": np.arange(len(CLASSES)), "class_id": CLASSES, "domain": "circle"})


def compact(rng: np.random.Generator) -> np.ndarray:
    """Every class is one narrow group, float32 [64, 2]."""
    return _on_circle(CLASSES * 2 * np.pi / N_CLASSES, rng)


def in_pairs(rng: np.random.Generator) -> np.ndarray:
    """Every class is four pairs, somewhere on the circle: each image has one of its class beside it, and the others are
    far away. float32 [64, 2]."""
    places = rng.permutation(N_CLASSES * N_IMAGES // 2)
    return _on_circle(np.repeat(places, 2) * 4 * np.pi / len(CLASSES), rng)


def touching(rng: np.random.Generator) -> np.ndarray:
    """Every class is an arc, and the gap to the next is twice the step between its images: k-means finds the arcs, but
    the nearest images of an arc's end are mostly of the next class. float32 [64, 2]."""
    step = 2 * np.pi / (N_CLASSES * (N_IMAGES + 1))
    within = np.tile(np.arange(N_IMAGES), N_CLASSES)
    return _on_circle((CLASSES * (N_IMAGES + 1) + within) * step, rng)


def _on_circle(angles: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    angles = angles + rng.uniform(-JITTER, JITTER, len(angles))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def scores(embeddings: np.ndarray) -> dict[str, float]:
    """R@1, MAP@R, and NMI of the best of twenty k-means clusterings, of 64 images."""
    queries = retrieval(embeddings, IDS)
    found = {metric: mean(queries, metric) for metric in ("r1", "map_at_r")}
    clusters = KMeans(N_CLASSES, n_init=20, random_state=0).fit_predict(embeddings)
    return {**found, "nmi": float(normalized_mutual_info_score(CLASSES, clusters))}


def _unseen_by(metric: str, spread: Callable[[np.random.Generator], np.ndarray]) -> Statistic:
    """What MAP@R loses, in embeddings that a metric calls perfect as the compact ones."""

    def statistic(_: Files, seed: int) -> Value:
        one, other = (scores(arranged(np.random.default_rng(seed))) for arranged in (compact, spread))
        if not np.allclose([one[metric], other[metric]], 1.0):
            raise AssertionError(f"{metric} is {one[metric]} and {other[metric]}, not 1 for both")
        return Value(other["map_at_r"] - one["map_at_r"], 0.0, 1)

    return statistic


CONSTRUCTED: dict[str, Statistic] = {
    "R@1 sees no difference, constructed": _unseen_by("r1", in_pairs),
    "NMI sees no difference, constructed": _unseen_by("nmi", touching),
}
