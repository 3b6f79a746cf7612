"""Chooses the validation classes: a share of each domain, whole groups of near-twins at a time, in disjoint folds.

Classes that are hard to tell apart, or that show the same thing in two data sets, share a group (column `group` of the
manifests). If one of them were trained on, the validation score of the other would be too high.
"""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from guie.data.manifest import CLASS_KEY, GROUP_SEPARATOR

log = logging.getLogger(__name__)


def groups_of(rows: pd.DataFrame) -> np.ndarray:
    """Numbers the groups of classes. Two classes that share the name of a group are in one group, directly or through a
    chain of other classes.

    Args:
        rows: A manifest; the column `group` may be absent. An image may name several groups, one per line.

    Returns:
        int64 [n_classes], the group of each class, in the order of (source, source_label); a class without a name is a
        group of its own.
    """
    class_of_row = rows.groupby(CLASS_KEY, sort=True).ngroup().to_numpy()
    n_classes = int(class_of_row.max()) + 1 if len(rows) else 0
    if "group" not in rows.columns:
        return np.arange(n_classes)
    has_name = (rows["group"] != "").to_numpy()
    names = pd.Series(rows["group"].to_numpy(object)[has_name], index=class_of_row[has_name], dtype=object)
    if names.str.contains(GROUP_SEPARATOR, regex=False).any():
        names = names.str.split(GROUP_SEPARATOR).explode()
    codes, uniques = pd.factorize(names)
    n_nodes = n_classes + len(uniques)
    edges = coo_matrix(
        (np.ones(len(codes), np.int8), (names.index.to_numpy(), n_classes + codes)), shape=(n_nodes, n_nodes)
    )
    return connected_components(edges, directed=False)[1][:n_classes].astype(np.int64)


def validation_groups(classes: pd.DataFrame, share: float, fold: int) -> np.ndarray:
    """Chooses the groups of one validation fold.

    The folds are disjoint. Groups of several classes are placed first, the largest first. Each goes to the fold where
    it brings the number of classes of its domains closest to `share` (least squares). Single classes then fill the
    folds in their order. A group that is far larger than a fold stays in training.

    Args:
        classes: domain, group (a number) and order (uint64, random) of the classes that may be chosen, sorted by name.
        share: Of each domain's classes, 0..1.
        fold: 0 to 1 / share - 1.

    Returns:
        int64, sorted: the numbers of the groups. Every domain of two or more groups has one for training and one for
        validation.
    """
    domains, domain = np.unique(classes["domain"].to_numpy(str), return_inverse=True)
    numbers = classes["group"].to_numpy()
    groups, first, unit, sizes = np.unique(numbers, return_index=True, return_inverse=True, return_counts=True)
    order = classes["order"].to_numpy(np.uint64)[first]  # of the group's first class by name
    room = _rooms(np.bincount(domain, minlength=len(domains)), share, fold)
    fold_of = np.full(len(groups), len(room) - 1)
    members = np.split(domain[np.argsort(unit, kind="stable")], np.cumsum(sizes)[:-1])
    for number in np.lexsort((order, -sizes)):
        if sizes[number] == 1:
            break
        fold_of[number] = _take_room(room, members[number], int(order[number]))
    for number in range(len(domains)):
        alone = _in_order((sizes == 1) & (domain[first] == number), order)
        fold_of[alone] = _fill_folds(room[:, number], len(alone))
    is_chosen = fold_of == fold
    for number, name in enumerate(domains):
        _keep_both_sides(str(name), is_chosen, np.unique(unit[domain == number]), sizes, order)
    return groups[is_chosen]


def _take_room(room: np.ndarray, domains: np.ndarray, order: int) -> int:
    """Places a group of several classes in a fold, and reduces the room that is left there.

    Args:
        room: From `_rooms`; changed.
        domains: Number of the domain of each class of the group.
        order: Decides between folds that fit equally well.

    Returns:
        The fold, or the last row of `room` if the group is far larger than any fold.
    """
    there, n = np.unique(domains, return_counts=True)
    gain = room[:, there] @ n
    best = np.flatnonzero(gain == gain.max())
    choice = int(best[order % len(best)])
    chosen = choice if 2 * gain[choice] >= n @ n else len(room) - 1
    room[chosen, there] -= n
    return chosen


def _in_order(is_meant: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The positions where `is_meant`, bool [n], is true, sorted by the numbers `order`, uint64 [n]."""
    places = np.flatnonzero(is_meant)
    return places[np.argsort(order[places], kind="stable")]


def _fill_folds(room: np.ndarray, n: int) -> np.ndarray:
    """Assigns `n` classes of a domain to folds, int64 [n], so that they fill the `room` left, int64 [n_folds + 1]."""
    ends = np.cumsum(np.maximum(room, 0))
    return np.minimum(np.searchsorted(ends, np.arange(n), side="right"), len(room) - 1)


def _rooms(n: np.ndarray, share: float, fold: int) -> np.ndarray:
    """The number of classes of each domain that each fold should get, int64 [n_folds + 1, n_domains]; the last row
    counts the classes in no fold."""
    n_folds = int(1 / share + 1e-9)
    ends = np.minimum((share * n * np.arange(n_folds + 1)[:, None] + 0.5).astype(np.int64), n)
    room = np.diff(np.concatenate([ends, n[None]]), axis=0)
    for domain in range(len(n)):
        if n[domain] < 2:
            room[:, domain] = 0
            room[-1, domain] = n[domain]
            continue
        wanted = min(max(int(room[fold, domain]), 1), int(n[domain]) - 1)
        other = (
            int(np.argmax(np.where(np.arange(len(room)) == fold, -1, room[:, domain])))
            if wanted > room[fold, domain]
            else len(room) - 1
        )
        room[other, domain] -= wanted - room[fold, domain]
        room[fold, domain] = wanted
    return room


def _keep_both_sides(
    domain: str, is_chosen: np.ndarray, units: np.ndarray, sizes: np.ndarray, order: np.ndarray
) -> None:
    """Moves the smallest group of a domain if training or validation would have none."""
    if len(units) < 2:
        log.warning(
            "domain %s has one class or group of classes with two or more images: nothing of it is set aside for "
            "validation",
            domain,
        )
        is_chosen[units] = False
    elif is_chosen[units].all() or not is_chosen[units].any():
        smallest = units[np.lexsort((order[units], sizes[units]))[0]]
        is_chosen[smallest] = not is_chosen[smallest]


def class_folds(ids: pd.DataFrame, n_folds: int) -> np.ndarray:
    """The fold of each image's class, int64 [n_images]; -1 for no class.

    Classes are dealt in turn within each domain, so that every fold has its share.

    Args:
        ids: domain and class_id of the images; a negative class_id is no class.
        n_folds: Two or more.

    Raises:
        ValueError: fewer classes than folds, or fewer than two folds.
    """
    classes = (
        ids.loc[ids["class_id"] >= 0, ["domain", "class_id"]].drop_duplicates().sort_values(["domain", "class_id"])
    )
    if not 2 <= n_folds <= len(classes):
        raise ValueError(f"{len(classes)} classes cannot be dealt to {n_folds} folds")
    dealt = classes.drop_duplicates("class_id").assign(fold=lambda c: np.arange(len(c)) % n_folds)
    return ids["class_id"].map(dealt.set_index("class_id")["fold"]).fillna(-1).to_numpy(dtype=np.int64)
