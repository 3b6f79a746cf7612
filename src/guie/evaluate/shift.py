"""Train-test splits by class with growing distance between the two sides, and a model's scores on them.

The first split is random. Swapping exchanges the training class and the test class that are most misplaced, as long as
the distance grows. A class is misplaced if it is nearer to the mean of the other side than to that of its own. Removing
then drops the most misplaced classes of both sides. Distances are between features of a frozen network, not of the
scored model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from guie.embed.retrieval import mean_of_domains
from guie.evaluate.intervals import class_interval
from guie.evaluate.protocols import merged, scored


@dataclass(frozen=True)
class ShiftSplit:
    """One split by class.

    Attributes:
        how: start, swap or remove.
        train: int64, classes on the training side.
        test: int64, classes on the test side; none is on both.
        frechet: Fréchet distance between the features of both sides.
    """

    how: str
    train: np.ndarray
    test: np.ndarray
    frechet: float


@dataclass(frozen=True)
class _Sides:
    """Which classes are on which side, before their distance is known.

    Attributes:
        how: start, swap or remove.
        is_test: bool [n_classes].
        is_kept: bool [n_classes]; a class that is not kept is on neither side.
    """

    how: str
    is_test: np.ndarray
    is_kept: np.ndarray


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Fréchet distance of the Gaussians fitted to two sets of features; of Inception features it is the FID.

    |mean_a - mean_b|^2 + trace(A + B - 2 (A B)^(1/2)). With A = X^T X and B = Y^T Y, the trace of the root is the sum
    of the singular values of X Y^T. So no root of a matrix is computed, and there may be fewer features than
    dimensions.

    Args:
        a: float [n_a, dim], at least two rows.
        b: float [n_b, dim], at least two rows.

    Raises:
        ValueError: a set has fewer than two rows.

    Source: Heusel et al. 2017, eq. 6; Dowson & Landau 1982.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a Fréchet distance needs two features on each side, there are {len(a)} and {len(b)}")
    mean_a, root_a = _moments(a)
    mean_b, root_b = _moments(b)
    overlap = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    return max(0.0, float(((mean_a - mean_b) ** 2).sum() + (root_a**2).sum() + (root_b**2).sum() - 2 * overlap))


def shift_splits(
    features: np.ndarray, class_ids: np.ndarray, n_splits: int = 6, seed: int = 0, min_share: float = 0.5
) -> list[ShiftSplit]:
    """Splits of growing distance. The first is random, half of the others come from swapping, and the rest from
    removing classes of the last swapped split.

    Args:
        features: float [n_images, dim] of a frozen network.
        class_ids: int [n_images]; negative ones are left out.
        n_splits: Number of splits, the random one included; there are fewer if swapping ends early.
        seed: Of the random split, which has half of the classes on each side.
        min_share: Share of each side's classes that stays in the last split.

    Returns:
        At most `n_splits`, of strictly growing distance. Only splits by removal lack classes.

    Raises:
        ValueError: fewer than four classes or two splits.

    Source: Milbich et al. 2021, Characterizing Generalization under Out-Of-Distribution Shifts, section 3 (swap by the
    means of classes, then remove). The order in which classes go is defined here.
    """
    rows = np.argsort(class_ids, kind="stable")
    rows = rows[class_ids[rows] >= 0]
    classes, starts, weight = np.unique(class_ids[rows], return_index=True, return_counts=True)
    if len(classes) < 4 or n_splits < 2:
        raise ValueError(
            f"{len(classes)} classes cannot make {n_splits} splits: at least four classes and two splits are needed"
        )
    means = np.add.reduceat(np.asarray(features, dtype=np.float64)[rows], starts, axis=0) / weight[:, None]
    n_swaps = n_splits // 2
    sides = [_random_sides(len(classes), seed)]
    sides += _sides_by_swapping(means, weight, sides[0], n_swaps)
    sides += _sides_by_removal(means, weight, sides[-1].is_test, n_splits - 1 - n_swaps, min_share)
    return _of_growing_distance(sides, classes, features, class_ids)


def shift_curve(
    splits: list[ShiftSplit],
    embeddings: Sequence[np.ndarray],
    ids: pd.DataFrame,
    n_controls: int = 5,
    distance: str = "cosine",
) -> pd.DataFrame:
    """Scores of a model on the test classes of each split.

    Args:
        splits: Of growing distance.
        embeddings: For each split, float [n_images, dim] of all images of `ids`, by a model trained on `split.train`.
            For one model that was trained on none of the classes, its embeddings once per split.
        ids: image_id, class_id, domain.
        n_controls: Number of random sets of as many classes. Their mean score, mp5_control, shows the effect of the
            index's size alone: a small index is easier.
        distance: See `scored`.

    Returns:
        One row per split: how, frechet, n_train_classes, n_test_classes, n_queries, mp5, mp5_low, mp5_high,
        mp5_control.
    """
    classes = np.unique(ids["class_id"][ids["class_id"] >= 0])
    rng = np.random.default_rng(0)
    rows = []
    for split, vectors in zip(splits, embeddings, strict=True):
        queries = _on(split.test, vectors, ids, distance)
        values, domains = queries["mp5"].to_numpy(), queries["domain"].to_numpy()
        low, high = class_interval(values, queries["class_id"].to_numpy(), domains)
        controls = [
            _on(rng.choice(classes, len(split.test), replace=False), vectors, ids, distance) for _ in range(n_controls)
        ]
        control = (
            np.mean([mean_of_domains(c["mp5"].to_numpy(), c["domain"].to_numpy())[0] for c in controls])
            if controls
            else np.nan
        )
        rows.append(
            {
                "how": split.how,
                "frechet": split.frechet,
                "n_train_classes": len(split.train),
                "n_test_classes": len(split.test),
            }
            | {"n_queries": int(np.isfinite(values).sum()), "mp5": mean_of_domains(values, domains)[0]}
            | {"mp5_low": low, "mp5_high": high, "mp5_control": float(control)}
        )
    return pd.DataFrame(rows)


def split_table(splits: list[ShiftSplit]) -> pd.DataFrame:
    """The splits as one table: split (from 0), class_id, side (train or test)."""
    return pd.concat(
        [
            pd.DataFrame({"split": i, "class_id": c, "side": side})
            for i, s in enumerate(splits)
            for side, c in (("train", s.train), ("test", s.test))
        ],
        ignore_index=True,
    )


def _on(classes: np.ndarray, embeddings: np.ndarray, ids: pd.DataFrame, distance: str) -> pd.DataFrame:
    """The scores of the queries of these classes among themselves; see `scored`."""
    rows = np.flatnonzero(ids["class_id"].isin(classes))
    part = ids.iloc[rows]
    return scored(embeddings[rows], part, merged(part), distance, is_quiet=True)


def _random_sides(n_classes: int, seed: int) -> _Sides:
    """Half of the classes on each side, at random."""
    is_test = np.zeros(n_classes, dtype=bool)
    is_test[np.random.default_rng(seed).permutation(n_classes)[: n_classes // 2]] = True
    return _Sides("start", is_test, np.ones(n_classes, dtype=bool))


def _sides_by_swapping(means: np.ndarray, weight: np.ndarray, start: _Sides, n_swaps: int) -> list[_Sides]:
    """At most `n_swaps` steps of the swapping, evenly spaced; the last one is its end.

    Args:
        means: float64 [n_classes, dim], mean feature of each class.
        weight: int64 [n_classes], images of each class.
        start: The sides before the first swap.
        n_swaps: Number of steps to return; fewer where there are fewer swaps.
    """
    swaps = _swapped(means, weight, start.is_test)
    steps = np.unique(np.linspace(0, len(swaps), n_swaps + 1).round().astype(int))[1:]
    return [_Sides("swap", swaps[step - 1], start.is_kept) for step in steps]


def _sides_by_removal(
    means: np.ndarray, weight: np.ndarray, is_test: np.ndarray, n_removals: int, min_share: float
) -> list[_Sides]:
    """The same sides with fewer and fewer classes. The most misplaced go first; at least two per side stay.

    Args:
        means: float64 [n_classes, dim], mean feature of each class.
        weight: int64 [n_classes], images of each class.
        is_test: bool [n_classes], the sides.
        n_removals: Number of steps to return.
        min_share: Share of each side's classes that the last step keeps.
    """
    order = np.argsort(-_misplacement(means, weight, is_test), kind="stable")
    sides = []
    for share in np.linspace(1, min_share, n_removals + 1)[1:]:
        is_kept = np.zeros(len(is_test), dtype=bool)
        for side in (False, True):
            there = order[is_test[order] == side]
            is_kept[there[len(there) - max(2, round(share * len(there))) :]] = True
        sides.append(_Sides("remove", is_test, is_kept))
    return sides


def _of_growing_distance(
    sides: list[_Sides], classes: np.ndarray, features: np.ndarray, class_ids: np.ndarray
) -> list[ShiftSplit]:
    """The splits with their distances, without those that are no farther apart than the one before.

    Args:
        sides: In the order of the splits.
        classes: int64 [n_classes], the numbers of the classes.
        features: float [n_images, dim].
        class_ids: int [n_images].
    """
    splits: list[ShiftSplit] = []
    for side in sides:
        train = classes[~side.is_test & side.is_kept]
        test = classes[side.is_test & side.is_kept]
        distance = frechet_distance(features[np.isin(class_ids, train)], features[np.isin(class_ids, test)])
        if not splits or distance > splits[-1].frechet:
            splits.append(ShiftSplit(side.how, train, test, distance))
    return splits


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean, float64 [dim], and X with X^T X the covariance (ddof 1), float64 [<= dim, dim]."""
    features = np.asarray(features, dtype=np.float64)
    mean = features.mean(axis=0)
    return mean, np.linalg.qr(features - mean, mode="r") / np.sqrt(len(features) - 1)


def _misplacement(means: np.ndarray, weight: np.ndarray, is_test: np.ndarray) -> np.ndarray:
    """How much farther each class is from its own side's mean than from the other's, float64 [n_classes]."""
    of_train, of_test = (np.average(means[side], axis=0, weights=weight[side]) for side in (~is_test, is_test))
    to_train, to_test = np.linalg.norm(means - of_train, axis=1), np.linalg.norm(means - of_test, axis=1)
    return np.where(is_test, to_test - to_train, to_train - to_test)


def _swapped(means: np.ndarray, weight: np.ndarray, is_test: np.ndarray) -> list[np.ndarray]:
    """The sides after each swap. Swapping ends when the sides' means no longer move apart, and after at most as many
    swaps as there are test classes."""
    found: list[np.ndarray] = []
    gap = _gap(means, weight, is_test)
    for _ in range(int(is_test.sum())):
        misplaced = _misplacement(means, weight, is_test)
        out, into = np.flatnonzero(is_test), np.flatnonzero(~is_test)
        is_test = is_test.copy()
        is_test[out[np.argmax(misplaced[out])]], is_test[into[np.argmax(misplaced[into])]] = False, True
        if _gap(means, weight, is_test) <= gap:
            break
        gap = _gap(means, weight, is_test)
        found.append(is_test)
    return found


def _gap(means: np.ndarray, weight: np.ndarray, is_test: np.ndarray) -> float:
    """Distance between the means of the two sides."""
    sides = [np.average(means[side], axis=0, weights=weight[side]) for side in (~is_test, is_test)]
    return float(np.linalg.norm(sides[0] - sides[1]))
