"""The training images of a stage, and which of them each step of an epoch takes: a pure function of the epoch."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd

from guie.data.packed import PackedImages
from guie.data.split import class_folds
from guie.settings.data import UNLABELLED
from guie.settings.recipe import Recipe
from guie.settings.sampling import PerClass
from guie.settings.stage import Stage
from guie.train.schedule import class_batches, epoch_order, n_steps_of, sample_weights, turns

log = logging.getLogger(__name__)
MOST_LEFT_OUT = 0.1  # of a data set's images, where batches are of one data set and of one group


def train_rows(index: pd.DataFrame, stage: Stage) -> np.ndarray:
    """The rows of the pack that a stage trains on, int64 [n]: its sources, less the fold that it leaves out."""
    return np.flatnonzero(_is_of_sources(index, stage) & ~_is_left_out(index, stage))


def val_rows(index: pd.DataFrame, stage: Stage) -> np.ndarray:
    """The rows of the pack that a stage is validated on, int64 [n]: the validation images, or the training images of
    the fold that it leaves out."""
    if stage.left_out is None:
        return np.flatnonzero(index["split"] == "val")
    is_generic = index["source"].isin(stage.retain.generic).to_numpy()
    return np.flatnonzero(_is_of_sources(index, stage) & _is_left_out(index, stage) & ~is_generic)


def _is_of_sources(index: pd.DataFrame, stage: Stage) -> np.ndarray:
    """Whether each row is a training image of the stage's sources, or one without a label of a source that it names;
    bool [n]."""
    is_named = index["source"].isin(stage.sources)
    is_train, is_unlabelled = (index["split"] == split for split in ("train", UNLABELLED))
    return ((is_train & (is_named | (not stage.sources))) | (is_unlabelled & is_named)).to_numpy()


def _is_left_out(index: pd.DataFrame, stage: Stage) -> np.ndarray:
    """Whether each row is a training image of the fold that the stage leaves out, bool [n]. The folds are of all
    training classes, so that they are the same for stages of other sources."""
    found = np.zeros(len(index), dtype=bool)
    if stage.left_out is not None:
        is_train = (index["split"] == "train").to_numpy()
        try:
            folds = class_folds(index[is_train], stage.left_out.of)
        except ValueError as error:
            raise ValueError(
                f"stages.{stage.name}.left_out.of: {error}; take a smaller number, or add classes"
            ) from error
        found[is_train] = folds == stage.left_out.number - 1
    return found


def _is_without_needed_label(index: pd.DataFrame, stage: Stage) -> np.ndarray:
    """Whether each row has no label, and the stage's objective, or a term of it, needs labels; bool [n]."""
    return (index["split"] == UNLABELLED).to_numpy() & stage.objective.needs_labels


def labelled(class_ids: np.ndarray, is_hidden: np.ndarray, withheld: str = "") -> tuple[np.ndarray, int]:
    """Labels that count from 0, int64 [n], and how many classes the objective sees.

    The classes that it sees come first, in the order of their ids, then those of hidden images alone.

    Args:
        class_ids: int [n].
        is_hidden: bool [n], the images that the objective does not see: of generic sets, or without a label.
        withheld: What else may be why none is left, for the message.

    Raises:
        ValueError: it would see none.
    """
    known = np.unique(class_ids[~is_hidden])
    if not len(known):
        raise ValueError(
            f"only images of generic sets or without labels are left to train on{withheld}; raise data.limits of the "
            "others"
        )
    classes = np.concatenate([known, np.setdiff1d(class_ids[is_hidden], known)])
    order = np.argsort(classes)
    return order[np.searchsorted(classes, class_ids, sorter=order)].astype(np.int64), len(known)


def _check_enough(n_images: int, stage: Stage, withheld: str) -> None:
    """Raises ValueError where a stage has no training image, or no more than the PCA that its neck starts as has
    dimensions; `withheld` is what else may be why, for the message."""
    if not n_images:
        where = f" in {', '.join(stage.sources)}" if stage.sources else ""
        raise ValueError(
            f"stages.{stage.name}: no training image is left after balancing{where}; lower data.min_per_class or "
            f"data.val_class_share{withheld}"
        )
    if stage.start.has_pca_neck and n_images <= stage.neck.dim:
        raise ValueError(
            f"stages.{stage.name}.start.has_pca_neck needs more training images than the {stage.neck.dim} of neck.dim; "
            f"there are {n_images}{withheld}. Add images, take a smaller neck.dim, or leave has_pca_neck out"
        )


def _check_fold(index: pd.DataFrame, stage: Stage) -> None:
    """Raises ValueError where the fold that a stage leaves out has no class of two images: a query needs another image
    of its class."""
    if stage.left_out is None:
        return
    counts = np.unique(index["class_id"].to_numpy()[val_rows(index, stage)], return_counts=True)[1]
    if not (counts > 1).any():
        raise ValueError(
            f"stages.{stage.name}.left_out: {stage.left_out} has no class of two images, so the stage could not be "
            "validated; take another number, or a smaller left_out.of"
        )


class TrainSet:
    """The training images of the pack, and the order in which a stage sees them.

    Attributes:
        rows: int64 [n], their row numbers in the pack.
        labels: int64 [n], their classes, 0 to n_classes - 1 in the order of the pack's class ids; see `labelled`.
        n_classes: Classes in this stage that the objective sees.
        is_generic: bool [n], the images of generic sets, which the objective does not see. See `Retain`.
        is_hidden: bool [n], these and the images without a label, which the terms of a `Sum` that need labels do not
            see. Their labels are n_classes and more.
        n_steps: Steps in an epoch.
    """

    def __init__(self, recipe: Recipe, stage: Stage, packed: PackedImages) -> None:
        """Reads the pack's index; ValueError if it holds no training image of the stage's sources or of its generic
        sets, too few images for its PCA neck, too few classes for its batches, or none that its left-out fold could
        ask about."""
        index, withheld = packed.index, recipe.data.told_of_foreign
        self.rows = train_rows(index, stage)
        _check_enough(len(self.rows), stage, withheld)
        _check_fold(index, stage)
        index = index.iloc[self.rows]
        self.is_generic = index["source"].isin(stage.retain.generic).to_numpy()
        self._check_generic(stage, withheld)
        self.is_hidden = self.is_generic | _is_without_needed_label(index, stage)
        self.labels, self.n_classes = labelled(index["class_id"].to_numpy(), self.is_hidden, withheld)
        self.image_ids = index["image_id"].to_numpy()
        self.repeats = index["repeats"].to_numpy()
        weights = {limit.name: limit.weight for limit in recipe.data.limits}
        self.factors = index["source"].map(lambda name: weights.get(name, 1.0)).to_numpy(np.float64)
        self.n_steps = n_steps_of(stage.optim.batch_size, int(self.repeats.sum()))
        self.seed = recipe.seed
        self.stage = stage
        self._check_classes(np.arange(len(self.rows)), "there are")
        self.source_names, self.sources = np.unique(index["source"].to_numpy(str), return_inverse=True)
        if stage.sampling.is_of_one_source:
            self._check_sources()

    def _check_generic(self, stage: Stage, withheld: str) -> None:
        """Raises ValueError where a stage names generic sets and no image of them trains: then nothing would carry the
        term of the features."""
        if stage.retain.generic and not self.is_generic.any():
            raise ValueError(
                f"stages.{stage.name}.retain.generic names {', '.join(stage.retain.generic)}, of which no image is "
                f"left{withheld}: nothing would carry the term of the features. Name a set of which there are images "
                "(data.licence and data.min_per_class leave some out), or take retain.generic=(), by which all images "
                "carry the term"
            )

    def _check_sources(self) -> None:
        """Raises ValueError where a batch needs more classes than one of the data sets has."""
        for i, name in enumerate(self.source_names):
            self._check_classes(np.flatnonzero(self.sources == i), f"the data set {name} has")

    def _check_classes(self, items: np.ndarray, who: str) -> None:
        """Raises ValueError where a batch needs more classes than some images have; `who` has them, for the message."""
        stage, n = self.stage, len(np.unique(self.labels[items]))
        if isinstance(stage.sampling, PerClass) and stage.batch_classes > n:
            raise ValueError(
                f"stages.{stage.name}: a batch of {stage.optim.batch_size} with {stage.sampling.rows_per_class} images "
                f"per class needs {stage.batch_classes} classes, and {who} {n}; make the batch smaller"
            )

    def step_items(self, epoch: int, groups: np.ndarray | None = None) -> np.ndarray:
        """Image numbers (into `rows`) of every step of an epoch, int64 [n_steps, batch_size].

        Args:
            epoch: Counted from 0.
            groups: Which images may share a batch, see `Objective.groups`.

        Raises:
            ValueError: no group has enough classes for a batch.
        """
        every = np.arange(len(self.rows))
        seed = (self.seed, self.stage.name, epoch)
        parted = self._parted(groups)
        if parted is None:
            return self._batches_of(every, self.n_steps, *seed)
        turn = turns(parted, self.n_steps, *seed)
        steps = np.empty((self.n_steps, self.stage.optim.batch_size), np.int64)
        for group in np.unique(turn):
            items = every[parted == group]
            steps[turn == group] = items[self._batches_of(items, int((turn == group).sum()), *seed, int(group))]
        return steps

    def _parted(self, groups: np.ndarray | None) -> np.ndarray | None:
        """The groups whose images share a batch, int64 [n]; each data set has its own where batches are of one.

        Groups that have too few classes for a batch are left out, so that no epoch ends the stage.

        Args:
            groups: See `Objective.groups`.

        Raises:
            ValueError: no group has enough classes for a batch.
        """
        if not self.stage.sampling.is_of_one_source:
            return None if groups is None else self._large_enough(groups)
        return self.sources if groups is None else self._large_enough(self._of_one_source(groups))

    def _of_one_source(self, groups: np.ndarray) -> np.ndarray:
        """Splits each group by data set; returns the new groups, int64 [n].

        If some data sets of a group have too few classes for a batch, they share batches in this group. If they have
        too few classes even together, they are left out of the group. If a data set would lose more than
        `MOST_LEFT_OUT` of its images in this way, the groups where it loses images are not split.
        """
        n = len(self.source_names)
        rest = groups * (n + 1) + n  # of each group, what is of several data sets
        cells = np.where(groups < 0, -1, groups * (n + 1) + self.sources)
        cells = np.where(np.isin(cells, self._small(cells)[0]), rest, cells)
        is_out = np.isin(cells, self._small(cells)[0])
        counts, lost = (np.bincount(self.sources[rows], minlength=n) for rows in (groups >= 0, is_out))
        is_poor = lost > MOST_LEFT_OUT * counts
        whole = np.unique(groups[is_out & is_poor[self.sources]])
        cells = np.where(np.isin(groups, whole), rest, cells)
        mixed = np.setdiff1d(np.unique(cells[(groups >= 0) & (cells == rest)]), self._small(cells)[0])
        if len(mixed):
            names = self.source_names[np.unique(self.sources[np.isin(cells, mixed)])]
            log.warning(
                "stages.%s: in %d of %d groups some batches are of several data sets in this epoch (%s), because not "
                "each has the %d classes of a batch there",
                *(self.stage.name, len(mixed), len(np.unique(groups[groups >= 0])), ", ".join(names)),
                self.needed_classes,
            )
        return cells

    @property
    def needed_classes(self) -> int:
        """Classes that a group needs: those of a batch; at least two, since objectives with groups compare classes."""
        return max(2, self.stage.batch_classes)

    def _small(self, groups: np.ndarray) -> tuple[np.ndarray, int]:
        """The numbers of the groups with fewer classes than they need, int64 [n_small], and how many groups there
        are."""
        pairs = np.unique(np.stack([groups, self.labels], axis=1)[groups >= 0], axis=0)
        numbers, n_classes = np.unique(pairs[:, 0], return_counts=True)
        return numbers[n_classes < self.needed_classes], len(numbers)

    def _large_enough(self, groups: np.ndarray) -> np.ndarray:
        """The groups with -1 for images of groups with fewer classes than a batch, int64 [n].

        Raises:
            ValueError: no group has enough.
        """
        small, n_groups = self._small(groups)
        if len(small) == n_groups:
            raise ValueError(
                f"stages.{self.stage.name}: no group of the objective has the {self.needed_classes} classes of a "
                "batch; give it fewer clusters, or make the batch smaller"
            )
        if len(small):
            is_small = np.isin(groups, small)
            text = "stages.%s: %d of %d groups have fewer than the %d classes of a batch; their %d images are left out"
            log.warning(text, self.stage.name, len(small), n_groups, self.needed_classes, is_small.sum())
            groups = np.where(is_small, -1, groups)
        return groups

    def _batches_of(self, items: np.ndarray, n_steps: int, *seed: Any) -> np.ndarray:
        """Batches of some images alone, as numbers into `items`, int64 [n_steps, batch_size]."""
        sampling, batch_size = self.stage.sampling, self.stage.optim.batch_size
        labels, repeats, factors = self.labels[items], self.repeats[items], self.factors[items]
        if isinstance(sampling, PerClass):
            weights = sample_weights(labels, repeats, sampling.power, factors)
            per_class, n_views = sampling.images_per_class, sampling.views_per_image
            return class_batches(labels, weights, n_steps, batch_size, per_class, *seed, n_views=n_views)
        order = epoch_order(labels, repeats, n_steps * batch_size, sampling.power, factors, *seed)
        return order.reshape(n_steps, batch_size)
