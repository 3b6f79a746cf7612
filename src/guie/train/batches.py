"""Training batches: augmented images, or cached features of a frozen backbone. Both are pure functions of the step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import Dataset

from guie.data.augment import VERSION, TrainTransform
from guie.data.packed import PackedImages
from guie.embed.extract import Squares
from guie.embed.features import Encoder, FeatureStore, Stored
from guie.embed.loading import load_batches
from guie.embed.sizes import sizes_of
from guie.embed.views import normalise
from guie.model.embedder import Embedder
from guie.model.neck import n_sizes
from guie.model.normalisation import mean_std
from guie.seeds import seed_of
from guie.settings.embed import VIEWS
from guie.settings.recipe import Recipe
from guie.settings.sampling import PerClass
from guie.settings.stage import Stage
from guie.train.gradient import StepInputs
from guie.train.look import ModelLook, image_features
from guie.train.objectives.base import Look
from guie.train.train_set import TrainSet


class Batches(Protocol):
    """Gives the inputs of the steps of an epoch, from step `start` on."""

    def epoch(self, epoch: int, start: int, groups: np.ndarray | None = None) -> Iterator[StepInputs]:
        """Yields each step's inputs; `groups` says which images may share a batch, see `Objective.groups`."""

    def look(self, model: Embedder) -> Look:
        """The training set as `model` sees it when it is asked."""


class ImageBatches:
    """Augmented, normalised images from the pack, made by loader processes: this process' share of each step."""

    def __init__(
        self,
        recipe: Recipe,
        stage: Stage,
        packed: PackedImages,
        train_set: TrainSet,
        accelerator: Accelerator,
        taught: Mapping[str, Stored] | None = None,
    ) -> None:
        """Batches for `stage` on the accelerator's device; `taught` is of the teachers, see `ModelLook`."""
        self.taught = taught or {}
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
        return ModelLook(self.train_set.labels, partial(self._plain, model), model, self.taught)

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

    def __init__(
        self,
        stage: Stage,
        train_set: TrainSet,
        store: FeatureStore,
        encoder: Encoder,
        taught: Mapping[str, Stored] | None = None,
    ) -> None:
        """Extracts what is not in the cache yet; `taught` is of the teachers, see `ModelLook`."""
        self.taught = taught or {}
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
        return ModelLook(self.train_set.labels, self._plain, model, self.taught)

    def _plain(self, items: np.ndarray) -> Tensor:
        """What the neck takes of the plain views, float32 [n, feature_dim (+ 3)]."""
        return self.features(items, np.zeros_like(items))


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
