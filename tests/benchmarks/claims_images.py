"""The training images of a claim's side: fewer of them, or others' labels."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
from claims_types import Images, digest
from objectives_training import UNSEEN, World

from guie.data.packed import PackedImages
from guie.embed.search import l2_normalised


def changed_images(world: World, images: Images, seed: int) -> PackedImages:
    """The images with other training images or labels; those that go belong to no split."""
    if images == Images():
        return world.packed
    index = world.packed.index
    rng = np.random.default_rng([seed, int(digest(images), 16)])
    stays = (index["split"] == "train").to_numpy().copy()
    if images.min_images:
        n_images = index["class_id"].map(index.loc[stays, "class_id"].value_counts())
        stays &= (n_images >= images.min_images).to_numpy()
    if images.domains:
        stays &= index["domain"].isin(images.domains).to_numpy()
    if images.class_share < 1:
        stays &= np.isin(index["class_id"].to_numpy(), _some_classes(index[stays], images.class_share, rng))
    if images.image_share < 1:
        stays = _some_images(index["class_id"].to_numpy(), stays, images.image_share, rng)
    split = np.where(index["split"] == "train", np.where(stays, "train", UNSEEN), index["split"])
    classes = index["class_id"].to_numpy().copy()
    if images.wrong_share:
        rows = np.flatnonzero(stays)
        classes[rows] = wrong_labels(
            classes[rows], world.features["plain"][rows], images.wrong_share, images.is_confusable, rng
        )
    changed = copy.copy(world.packed)
    changed.index = index.assign(split=split, class_id=classes)
    return changed


def _some_classes(train: pd.DataFrame, share: float, rng: np.random.Generator) -> np.ndarray:
    """Some classes of each domain, at random."""
    kept = []
    for _, of_domain in train.groupby("domain", sort=True):
        classes = np.unique(of_domain["class_id"].to_numpy())
        kept.append(rng.choice(classes, max(2, round(share * len(classes))), replace=False))
    return np.concatenate(kept)


def _some_images(classes: np.ndarray, stays: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Some images of each class, at random; at least two, where it has them. bool [n]."""
    kept = np.zeros(len(stays), dtype=bool)
    for label in np.unique(classes[stays]):
        rows = np.flatnonzero(stays & (classes == label))
        n = min(len(rows), max(2, round(share * len(rows))))
        kept[rng.choice(rows, n, replace=False)] = True
    return kept


def wrong_labels(
    classes: np.ndarray, features: np.ndarray, share: float, is_confusable: bool, rng: np.random.Generator
) -> np.ndarray:
    """Labels of which a share is wrong, int64 [n].

    Args:
        classes: int64 [n], the right ones.
        features: float [n, dim].
        share: Of the images; which ones is random.
        is_confusable: A wrong label is the class with the nearest mean feature (by cosine), else any other class.
        rng: Draws both.
    """
    names, own = np.unique(classes, return_inverse=True)
    wrong = rng.choice(len(classes), round(share * len(classes)), replace=False)
    if is_confusable:
        sums = np.zeros((len(names), features.shape[1]))
        np.add.at(sums, own, l2_normalised(features))
        means = l2_normalised(sums)
        cosines = means @ means.T
        np.fill_diagonal(cosines, -np.inf)
        new = cosines.argmax(axis=1)[own[wrong]]
    else:
        new = (own[wrong] + rng.integers(1, len(names), len(wrong))) % len(names)
    found = own.copy()
    found[wrong] = new
    return names[found]
