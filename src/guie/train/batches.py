"""Training batches: augmented images, or cached features of a frozen backbone. Both are pure functions of the step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import Dataset

from guie.data.augment import VERSION, TrainTransform
from guie.data.packed import PackedImages
from guie.embed.extract import Squares
from guie.embed.features import Encoder, FeatureStore
from guie.embed.loading import load_batches
from guie.embed.sizes import sizes_of
from guie.embed.views import normalise
from guie.model.embedder import Embedder
from guie.model.neck import n_sizes
from guie.model.normalisation import mean_std
from guie.settings.embed import VIEWS
from guie.settings.recipe import Recipe
from guie.settings.stage import PerClass, Stage
from guie.train.gradient import StepInputs
from guie.train.look import ModelLook, image_features
from guie.train.objectives.base import Look
from guie.train.schedule import class_batches, epoch_order, n_steps_of, sample_weights, seed_of, turns


class TrainSet:
    """The training images of the pack, and the order in which a stage sees them.

    Attributes:
        rows: int64 [n], their row numbers in the pack.
        labels: int64 [n], their classes, 0 to n_classes - 1 in the order of the pack's class ids.
        n_classes: Classes in this stage.
        n_steps: Steps in an epoch.
    """

    def __init__(self, recipe: Recipe, stage: Stage, packed: PackedImages) -> None:
        """Reads the pack's index; ValueError if it holds no training image of the stage's sources, or too few classes
        for its batches."""
        index = packed.index
        self.rows = np.flatnonzero(
            (index["split"] == "train") & (index["source"].isin(stage.sources) | (not stage.sources))
        )
        if not len(self.rows):
            where = f" in {', '.join(stage.sources)}" if stage.sources else ""
            raise ValueError(
                f"no training image is left after balancing{where}; lower data.min_per_class or data.val_class_share"
            )
        index = index.iloc[self.rows]
        self.labels = np.unique(index["class_id"].to_numpy(), return_inverse=True)[1].astype(np.int64)
        self.image_ids = index["image_id"].to_numpy()
        self.n_classes = int(self.labels.max()) + 1
        self.repeats = index["repeats"].to_numpy()
        weights = {limit.name: limit.weight for limit in recipe.data.limits}
        self.factors = index["source"].map(lambda name: weights.get(name, 1.0)).to_numpy(np.float64)
        self.n_steps = n_steps_of(stage.optim.batch_size, int(self.repeats.sum()))
        self.seed = recipe.seed
        self.stage = stage
        self._check_classes(np.arange(len(self.rows)), "there are")
        names, self.sources = np.unique(index["source"].to_numpy(), return_inverse=True)
        if stage.sampling.is_of_one_source:
            self._check_sources(names)

    def _check_sources(self, names: np.ndarray) -> None:
        """Raises ValueError where a batch needs more classes than one of the data sets has; `names` are theirs."""
        for i, name in enumerate(names):
            self._check_classes(np.flatnonzero(self.sources == i), f"the data set {name} has")

    def _check_classes(self, items: np.ndarray, who: str) -> None:
        """Raises ValueError where a batch needs more classes than some images have; `who` has them, for the message."""
        batch_size, sampling = self.stage.optim.batch_size, self.stage.sampling
        n = len(np.unique(self.labels[items]))
        if isinstance(sampling, PerClass) and batch_size // sampling.rows_per_class > n:
            raise ValueError(
                f"stages.{self.stage.name}: a batch of {batch_size} with {sampling.rows_per_class} images per class "
                f"needs {batch_size // sampling.rows_per_class} classes, and {who} {n}; make the batch smaller"
            )

    def step_items(self, epoch: int, groups: np.ndarray | None = None) -> np.ndarray:
        """Image numbers (into `rows`) of every step of an epoch, int64 [n_steps, batch_size].

        Args:
            epoch: Counted from 0.
            groups: Which images may share a batch, see `Objective.groups`.

        Raises:
            ValueError: a group has too few classes for a batch, or no image is in a group.
        """
        if self.stage.sampling.is_of_one_source:
            of_source = self.sources if groups is None else np.where(groups < 0, -1, groups * (self.sources.max() + 1))
            groups = of_source if groups is None else np.where(groups < 0, -1, of_source + self.sources)
        every = np.arange(len(self.rows))
        seed = (self.seed, self.stage.name, epoch)
        if groups is None:
            return self._batches_of(every, self.n_steps, *seed)
        if (groups < 0).all():
            raise ValueError(
                f"stages.{self.stage.name}: the objective leaves out every image; give it fewer clusters or more images"
            )
        turn = turns(groups, self.n_steps, *seed)
        steps = np.empty((self.n_steps, self.stage.optim.batch_size), np.int64)
        for group in np.unique(turn):
            items = every[groups == group]
            self._check_classes(items, f"group {group} of the images has")
            steps[turn == group] = items[self._batches_of(items, int((turn == group).sum()), *seed, int(group))]
        return steps

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


class Batches(Protocol):
    """Gives the inputs of the steps of an epoch, from step `start` on."""

    def epoch(self, epoch: int, start: int, groups: np.ndarray | None = None) -> Iterator[StepInputs]:
        """Yields each step's inputs; `groups` says which images may share a batch, see `Objective.groups`."""

    def look(self, model: Embedder) -> Look:
        """The training set as `model` sees it when it is asked."""


class ImageBatches:
    """Augmented, normalised images from the pack, made by loader processes: this process' share of each step."""

    def __init__(
        self, recipe: Recipe, stage: Stage, packed: PackedImages, train_set: TrainSet, accelerator: Accelerator
    ) -> None:
        """Batches for `stage` on the accelerator's device."""
        self.mean_std = mean_std(recipe.model_of(stage.name))
        self.stage, self.train_set, self.accelerator = stage, train_set, accelerator
        self.packed = packed
        self.dataset = _Augmented(packed, train_set.rows, TrainTransform(stage.augment, stage.image_px))

    def epoch(self, epoch: int, start: int, groups: np.ndarray | None = None) -> Iterator[StepInputs]:
        """See `Batches`."""
        steps = self.train_set.step_items(epoch, groups)
        numbers = np.arange(steps.size).reshape(steps.shape)
        rank, n = self.accelerator.process_index, self.accelerator.num_processes
        plan = [
            [
                (int(i), seed_of(self.train_set.seed, self.stage.name, epoch, int(number)))
                for i, number in zip(*step, strict=True)
            ]
            for step in zip(steps[start:, rank::n], numbers[start:, rank::n], strict=True)
        ]
        batch_bytes = steps.shape[1] // n * 3 * self.stage.image_px**2
        loader = load_batches(self.dataset, plan, batch_bytes=batch_bytes, prefetch=4)
        for items, pixels in zip(steps[start:], loader, strict=True):
            inputs = normalise(pixels.to(self.accelerator.device).permute(0, 3, 1, 2).float(), *self.mean_std)
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            yield _step_inputs(inputs, self.train_set, items, np.zeros_like(items), self.accelerator, True)

    def look(self, model: Embedder) -> Look:
        """See `Batches`."""
        return ModelLook(self.train_set.labels, partial(self._plain, model), model)

    def _plain(self, model: Embedder, items: np.ndarray) -> Tensor:
        """Features of the plain views, float32 [n, feature_dim]."""
        squares = Squares(self.packed, self.train_set.rows, self.stage.image_px, "plain", None)
        n_at_once = max(1, self.stage.optim.batch_size // self.stage.cost.n_parts)
        return image_features(squares, items, model, self.mean_std, n_at_once, self.accelerator)


class _Augmented(Dataset[Tensor]):
    """uint8 [px, px, 3] of (image number, seed)."""

    def __init__(self, packed: PackedImages, rows: np.ndarray, transform: TrainTransform) -> None:
        self.packed, self.rows, self.transform = packed, rows, transform

    def __getitem__(self, item: tuple[int, int]) -> Tensor:
        number, seed = item
        image = self.packed.read(int(self.rows[number]), self.transform.image_px)
        return torch.from_numpy(self.transform(image, seed))


@dataclass(frozen=True)
class _AugmentedView:
    """A random change that is the same for the same view and row, so that it can be cached."""

    transform: TrainTransform
    name: str

    def __call__(self, image: np.ndarray, row: int) -> np.ndarray:
        return self.transform(image, seed_of(self.name, row))


class FeatureBatches:
    """Cached features of a frozen backbone: plain, mirrored and augmented views, drawn at random; all rows for every
    process."""

    def __init__(self, stage: Stage, train_set: TrainSet, store: FeatureStore, encoder: Encoder) -> None:
        """Extracts what is not in the cache yet."""
        self.stage, self.train_set, self.accelerator = stage, train_set, store.accelerator
        transform = TrainTransform(stage.augment, stage.image_px)
        augmented = [
            f"view{i}-{seed_of(train_set.seed, i, asdict(stage.augment), VERSION)}"
            for i in range(stage.cost.n_cached_augmentations)
        ]
        names = ["plain", *(["flip"] if stage.augment.flip else []), *augmented]
        self.views = []
        for name in names:
            change = None if name in VIEWS else _AugmentedView(transform, name)
            others = names[1:2] if name == "plain" and names[1:2] == ["flip"] else []
            self.views.append(store.get(encoder, name, train_set.rows, change, others))
        sampling = stage.sampling
        self.n_views = sampling.views_per_image if isinstance(sampling, PerClass) else 1
        if self.n_views > len(self.views):
            raise ValueError(
                f"stages.{stage.name}.sampling.views_per_image is {self.n_views}, and {len(self.views)} views are "
                "cached; raise cost.n_cached_augmentations"
            )
        self.sizes = sizes_of(store.packed, train_set.rows)[:, : n_sizes(stage.neck)]

    def features(self, items: np.ndarray, view: np.ndarray) -> Tensor:
        """What the neck takes, float32 [n, feature_dim (+ 3)], of images and views by number, int64 [n] both."""
        width = self.views[0].shape[1]
        features = np.empty((len(items), width + self.sizes.shape[1]), np.float32)
        for i, cached in enumerate(self.views):
            features[view == i, :width] = cached[items[view == i]]
        features[:, width:] = self.sizes[items]
        return torch.from_numpy(features).to(self.accelerator.device)

    def epoch(self, epoch: int, start: int, groups: np.ndarray | None = None) -> Iterator[StepInputs]:
        """See `Batches`."""
        steps = self.train_set.step_items(epoch, groups)
        rng = np.random.default_rng(seed_of(self.train_set.seed, self.stage.name, epoch, "views"))
        views = rng.integers(len(self.views), size=steps.shape)
        for i in range(1, self.n_views):  # the rows of an image stand one after the other
            views[:, i :: self.n_views] = (views[:, :: self.n_views] + i) % len(self.views)
        for items, view in zip(steps[start:], views[start:], strict=True):
            features = self.features(items, view)
            yield _step_inputs(features, self.train_set, items, view, self.accelerator, False)

    def look(self, model: Embedder) -> Look:
        """See `Batches`."""
        return ModelLook(self.train_set.labels, lambda items: self.features(items, np.zeros_like(items)), model)


def _step_inputs(
    inputs: Tensor,
    train_set: TrainSet,
    items: np.ndarray,
    views: np.ndarray,
    accelerator: Accelerator,
    are_pixels: bool,
) -> StepInputs:
    """The inputs with labels, items and views of the whole batch."""
    labels, numbers, of_views = (
        torch.from_numpy(a).to(accelerator.device) for a in (train_set.labels[items], items, views)
    )
    return StepInputs(inputs, labels, numbers, of_views, are_pixels)


def less_memory(stage: Stage) -> str:
    """What to set when a stage's memory is full."""
    at, n, batch_size = f"stages.{stage.name}", stage.cost.n_parts, stage.optim.batch_size
    parts = next((more for more in range(2 * n, batch_size + 1) if batch_size % more == 0), 0)
    remedies = []
    if parts and not stage.is_backbone_frozen:
        remedies.append(f"--set {at}.cost.n_parts={parts} (the same gradient in parts, now {n})")
    if not stage.cost.has_grad_checkpoints and not stage.is_backbone_frozen:
        remedies.append(f"--set {at}.cost.has_grad_checkpoints=true")
    return ", or ".join([*remedies, f"a smaller {at}.optim.batch_size (now {batch_size})"])
