"""Training batches: augmented images, or cached features of a frozen backbone. Both are pure functions of the step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import Dataset

from guie.data.augment import VERSION, TrainTransform
from guie.data.packing import PackedImages
from guie.done import outputs_digest
from guie.embed.extract import FeatureRequest, digest_of_backbone, digest_of_rows, extract, precision_on
from guie.embed.loading import load_batches
from guie.embed.sizes import sizes_of
from guie.embed.views import normalise
from guie.model.backbone import Backbone
from guie.model.embedder import Embedder
from guie.model.neck import n_sizes
from guie.model.normalisation import mean_std
from guie.run import Run
from guie.settings.embed import VIEWS
from guie.settings.recipe import Recipe
from guie.settings.stage import PerClass, Stage
from guie.train.schedule import class_batches, epoch_order, n_steps_of, sample_weights, seed_of


class TrainSet:
    """The training images of the pack, and the order in which a stage sees them.

    Attributes:
        rows: int64 [n], their row numbers in the pack.
        labels: int64 [n], their classes, 0 to n_classes - 1 in the order of the pack's class ids.
        n_classes: Classes in this stage.
        n_steps: Steps in an epoch.
    """

    def __init__(self, recipe: Recipe, stage: Stage, packed: PackedImages) -> None:
        """Reads the pack's index; ValueError if it holds no training image of the stage's sources, or too few classes for its batches."""
        index = packed.index
        self.rows = np.flatnonzero((index["split"] == "train") & (index["source"].isin(stage.sources) | (not stage.sources)))
        if not len(self.rows):
            where = f" in {', '.join(stage.sources)}" if stage.sources else ""
            raise ValueError(f"no training image is left after balancing{where}; lower data.min_per_class or data.val_class_share")
        self.labels = np.unique(index["class_id"].to_numpy()[self.rows], return_inverse=True)[1].astype(np.int64)
        self.image_ids = index["image_id"].to_numpy()[self.rows]
        self.n_classes = int(self.labels.max()) + 1
        self.repeats = index["repeats"].to_numpy()[self.rows]
        weights = {limit.name: limit.weight for limit in recipe.data.limits}
        self.factors = index["source"].map(lambda name: weights.get(name, 1.0)).to_numpy(np.float64)[self.rows]
        self.n_steps = n_steps_of(stage.optim.batch_size, int(self.repeats.sum()))
        self.seed, self.stage = recipe.seed, stage
        batch_size, sampling = stage.optim.batch_size, stage.sampling
        if isinstance(sampling, PerClass) and batch_size // sampling.images_per_class > self.n_classes:
            raise ValueError(
                f"stages.{stage.name}: a batch of {batch_size} with {sampling.images_per_class} images per class needs "
                f"{batch_size // sampling.images_per_class} classes, and there are {self.n_classes}; make the batch smaller"
            )

    def step_items(self, epoch: int) -> np.ndarray:
        """Image numbers (into `rows`) of every step of an epoch, int64 [n_steps, batch_size]."""
        sampling, batch_size = self.stage.sampling, self.stage.optim.batch_size
        seed = (self.seed, self.stage.name, epoch)
        if isinstance(sampling, PerClass):
            weights = sample_weights(self.labels, self.repeats, sampling.power, self.factors)
            return class_batches(self.labels, weights, self.n_steps, batch_size, sampling.images_per_class, *seed)
        order = epoch_order(self.labels, self.repeats, self.n_steps * batch_size, sampling.power, self.factors, *seed)
        return order.reshape(self.n_steps, batch_size)


class Batches(Protocol):
    """Gives the inputs of the steps of an epoch, from step `start` on."""

    def epoch(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor, np.ndarray]]:
        """Yields (inputs, labels int64 [n], image numbers int64 [n]) for this process' share of each step."""


class ImageBatches:
    """Augmented, normalised images from the pack, made by loader processes."""

    def __init__(self, run: Run, stage: Stage, packed: PackedImages, train_set: TrainSet, accelerator: Accelerator) -> None:
        """Batches for `stage` on the accelerator's device."""
        self.mean_std, self.stage, self.train_set, self.accelerator = mean_std(run.recipe.model_of(stage.name)), stage, train_set, accelerator
        self.dataset = _Augmented(packed, train_set.rows, TrainTransform(stage.augment, stage.image_px))

    def epoch(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor, np.ndarray]]:
        """See `Batches`."""
        steps = self.train_set.step_items(epoch)
        seeds = np.arange(steps.size).reshape(steps.shape)
        rank, n = self.accelerator.process_index, self.accelerator.num_processes
        plan = [
            [(int(i), seed_of(self.train_set.seed, self.stage.name, epoch, int(s))) for i, s in zip(items[rank::n], numbers[rank::n], strict=True)]
            for items, numbers in zip(steps[start:], seeds[start:], strict=True)
        ]
        loader = load_batches(self.dataset, plan, batch_bytes=steps.shape[1] // n * 3 * self.stage.image_px**2, prefetch=4)
        for items, pixels in zip(steps[start:], loader, strict=True):
            mine = items[rank::n]
            inputs = normalise(pixels.to(self.accelerator.device).permute(0, 3, 1, 2).float(), *self.mean_std)
            labels = torch.from_numpy(self.train_set.labels[mine]).to(self.accelerator.device)
            yield inputs.contiguous(memory_format=torch.channels_last), labels, mine


class _Augmented(Dataset[Tensor]):
    """uint8 [px, px, 3] of (image number, seed)."""

    def __init__(self, packed: PackedImages, rows: np.ndarray, transform: TrainTransform) -> None:
        self.packed, self.rows, self.transform = packed, rows, transform

    def __getitem__(self, item: tuple[int, int]) -> Tensor:
        number, seed = item
        return torch.from_numpy(self.transform(self.packed.read(int(self.rows[number]), self.transform.image_px), seed))


@dataclass(frozen=True)
class _AugmentedView:
    """A random change that is the same for the same view and row, so that it can be cached."""

    transform: TrainTransform
    name: str

    def __call__(self, image: np.ndarray, row: int) -> np.ndarray:
        return self.transform(image, seed_of(self.name, row))


class FeatureBatches:
    """Cached features of a frozen backbone: plain, mirrored and `cost.n_cached_augmentations` augmented views, drawn at random."""

    def __init__(self, run: Run, stage: Stage, packed: PackedImages, train_set: TrainSet, accelerator: Accelerator, backbone: Backbone) -> None:
        """Extracts what is not in the cache yet."""
        self.stage, self.train_set, self.accelerator = stage, train_set, accelerator
        transform = TrainTransform(stage.augment, stage.image_px)
        augmented = [f"view{i}-{seed_of(run.recipe.seed, i, asdict(stage.augment), VERSION)}" for i in range(stage.cost.n_cached_augmentations)]
        names = ["plain", *(["flip"] if stage.augment.flip else []), *augmented]
        digest, pack = digest_of_backbone(backbone), outputs_digest(run.folder(3))
        self.views = []
        model, rows, precision = run.recipe.model_of(stage.name), digest_of_rows(train_set.rows), precision_on(accelerator.device)
        for name in names:
            request = FeatureRequest(pack, digest, model, stage.image_px, name, rows, stage.patch_stride, precision)
            change = None if name in VIEWS else _AugmentedView(transform, name)
            others = names[1:2] if name == "plain" and names[1:2] == ["flip"] else []
            self.views.append(extract(run.cache, request, backbone, packed, train_set.rows, accelerator, run.recipe.embed.batch_size, change, others))
        self.sizes = sizes_of(packed, train_set.rows)[:, : n_sizes(stage.neck)]

    def features(self, items: np.ndarray, view: np.ndarray) -> Tensor:
        """What the neck takes, float32 [n, feature_dim (+ 3)], of images and views by number, int64 [n] both."""
        width = self.views[0].shape[1]
        features = np.empty((len(items), width + self.sizes.shape[1]), np.float32)
        for i, cached in enumerate(self.views):
            features[view == i, :width] = cached[items[view == i]]
        features[:, width:] = self.sizes[items]
        return torch.from_numpy(features).to(self.accelerator.device)

    def epoch(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor, np.ndarray]]:
        """See `Batches`."""
        steps = self.train_set.step_items(epoch)
        rng = np.random.default_rng(seed_of(self.train_set.seed, self.stage.name, epoch, "views"))
        views = rng.integers(len(self.views), size=steps.shape)
        rank, n = self.accelerator.process_index, self.accelerator.num_processes
        for items, view in zip(steps[start:, rank::n], views[start:, rank::n], strict=True):
            labels = torch.from_numpy(self.train_set.labels[items])
            yield self.features(items, view), labels.to(self.accelerator.device), items


def start_centers(embedder: Embedder, batches: FeatureBatches, train_set: TrainSet, accelerator: Accelerator) -> None:
    """Starts the classifier from the class means of the fresh neck's embeddings of the plain view."""
    embedder.neck.eval()
    labels = torch.from_numpy(train_set.labels)
    chunks = np.split(np.arange(len(labels)), range(4096, len(labels), 4096))
    with torch.no_grad():
        parts = [embedder.neck(batches.features(items, np.zeros_like(items))).cpu() for items in chunks]
        embedder.classifier.start_from_means(torch.cat(parts).to(accelerator.device), labels.to(accelerator.device))


def less_memory(stage: Stage) -> str:
    """What to set when a stage's memory is full."""
    at, n, batch_size = f"stages.{stage.name}", stage.cost.n_parts, stage.optim.batch_size
    parts = next((more for more in range(2 * n, batch_size + 1) if batch_size % more == 0), 0)
    remedies = [f"--set {at}.cost.n_parts={parts} (the same gradient in parts, now {n})"] if parts else []
    if not stage.cost.has_grad_checkpoints and not stage.is_backbone_frozen:
        remedies.append(f"--set {at}.cost.has_grad_checkpoints=true")
    return ", or ".join([*remedies, f"a smaller {at}.optim.batch_size (now {batch_size})"])
