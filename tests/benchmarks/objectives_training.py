"""Trains one objective and scores it on classes that training never saw: the work behind each row of objectives.py.

A row costs its training and half a second. One process does many rows: the images are packed once a seed, the frozen
backbone's features are extracted once for all seeds, and both stay in memory.
"""

from __future__ import annotations

import copy
import ctypes
import gc
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from doors import open_doors
from objectives_results import alone_in, code_commit
from sklearn.metrics import normalized_mutual_info_score

from guie.data.packed import PackedImages
from guie.data.split import class_folds
from guie.embed.accelerator import make_accelerator, precision_of
from guie.embed.ensemble import load_backbone, rows_of
from guie.embed.features import Encoder, FeatureStore
from guie.embed.retrieval import mean_of_domains
from guie.evaluate.geometry import density, k_means_clusters, spectral_decay
from guie.evaluate.intervals import class_interval
from guie.evaluate.protocols import merged, scored
from guie.machine import peak_memory
from guie.model.neck import Neck
from guie.recipe import Recipe, Stage
from guie.run import Run, keep_freed_memory
from guie.seeds import seed_of
from guie.train.batches import Batches, FeatureBatches, ImageBatches
from guie.train.curves import Curves
from guie.train.model import Model, build_model
from guie.train.parameters import open_parts
from guie.train.state import Checkpoint
from guie.train.train_set import TrainSet
from guie.train.trainer import Trainer

SETTINGS = Path(__file__).with_name("objectives_settings.py")
VIEWS = ("plain", "flip")
N_FOLDS = 2
LOADER = "DataLoader worker"  # in the errors of processes that load images
UNSEEN = "unseen"  # the split of images that a fold of the training classes must not touch


@dataclass
class World:
    """The images of one split of the classes, and a frozen backbone's features of them.

    It gives features as a `FeatureStore` does, from memory.

    Attributes:
        run: Its recipe, and the folders of its images.
        packed: The images of both splits.
        encoder: The backbone, as it was pretrained, on the accelerator's device.
        accelerator: The device and its precision.
        features: View to float32 [n_images, feature_dim], in the order of `packed`.
    """

    run: Run
    packed: PackedImages
    encoder: Encoder
    accelerator: Accelerator
    features: dict[str, np.ndarray] = field(default_factory=dict)

    def get(
        self, encoder: Encoder, view: str, rows: np.ndarray, change: Any = None, other_views: Sequence[str] = ()
    ) -> np.ndarray:
        """float32 [n_rows, feature_dim] of a view; ValueError for a view that is changed, which is not kept."""
        if change is not None:
            raise ValueError(f"only {' and '.join(VIEWS)} are kept, not {view!r}")
        return self.features[view][rows]


def world_of(
    recipe: Recipe,
    image_px: int,
    data_root: Path,
    out: Path,
    first: World | None = None,
    has_features: bool = True,
    patch_stride: int = 0,
    device: str = "cpu",
) -> World:
    """The images of `recipe.seed`, packed and with their features. Other processes that want the same seed wait.

    Args:
        recipe: Data, backbone and seed.
        image_px: Side of the square that the backbone sees.
        data_root: Of the data sets.
        out: Where the doors write, a folder for each seed.
        first: A world with features of the same backbone: images with the same bytes are not extracted again.
        has_features: Whether features are wanted at all.
        patch_stride: Pixels from one patch of a transformer to the next; 0 is the patch's side.
        device: Of networks, `cpu` or `cuda`; a card computes in the precision that the doors take there. Images are
            packed on the CPU.
    """
    keep_freed_memory()
    folder = out / f"seed{recipe.seed}"
    with alone_in(folder):
        _pack(recipe.seed, data_root, folder)
        run = Run(recipe.validate(), data_root.resolve(), (folder / recipe.name).resolve(), device)
        world = World(run, PackedImages(run.folder(3)), *_encoder(run, image_px, first, patch_stride))
        if has_features:
            world.features = _features(world, first)
            gc.freeze()  # what stays is not looked at after each row
    return world


def _pack(seed: int, data_root: Path, folder: Path) -> None:
    """Opens the doors that list and pack the images of a seed."""
    options = ["--recipe", str(SETTINGS), "--data-root", str(data_root), "--out", str(folder), "--device", "cpu"]
    open_doors((1, 2, 3), [*options, "--set", f"seed={seed}"], stdout=sys.stderr)


def _encoder(run: Run, image_px: int, first: World | None, patch_stride: int) -> tuple[Encoder, Accelerator]:
    """The run's pretrained backbone on its device, or that of another world."""
    accelerator = make_accelerator(run.device, precision_of(run.device))
    if first:
        return first.encoder, accelerator
    backbone = load_backbone(run, "pretrained", image_px, patch_stride).to(accelerator.device)
    return Encoder.of(backbone, run.recipe.model, image_px, patch_stride), accelerator


def _features(world: World, first: World | None) -> dict[str, np.ndarray]:
    """The features of all images of a world; of images that `first` has, those of `first`."""
    packed, encoder = world.packed, world.encoder
    place = _place_in(first.packed, packed) if first else np.full(len(packed), -1)
    new = np.flatnonzero(place < 0)
    store = FeatureStore(world.run, packed, world.accelerator)
    features = {}
    for view in VIEWS:
        width = encoder.backbone.feature_dim
        whole = np.empty((len(packed), width), np.float32)
        if first:
            whole[place >= 0] = first.features[view][place[place >= 0]]
        if len(new):
            whole[new] = store.get(encoder, view, new, other_views=VIEWS[1:] if view == VIEWS[0] else ())[:]
        features[view] = whole
    return features


def _place_in(first: PackedImages, packed: PackedImages) -> np.ndarray:
    """The row of each image in another pack, int64 [n]; -1 where it has none with the same bytes."""
    there = pd.Series(np.arange(len(first)), index=first.index["image_id"])
    place = there.reindex(packed.index["image_id"]).fillna(-1).to_numpy(np.int64)
    is_same = [j >= 0 and packed.read_bytes(i) == first.read_bytes(j) for i, j in enumerate(place.tolist())]
    return np.where(is_same, place, -1)


def fold_of(packed: PackedImages, fold: int) -> PackedImages:
    """The training classes alone, dealt to `N_FOLDS` folds within each domain: those of `fold` validate, the others
    train. The unseen classes take no part."""
    index = packed.index
    is_train = (index["split"] == "train").to_numpy()
    split = np.full(len(index), UNSEEN, dtype=object)
    split[is_train] = np.where(class_folds(index[is_train], N_FOLDS) == fold, "val", "train")
    folded = copy.copy(packed)
    folded.index = index.assign(split=split)
    return folded


class CannotTrainError(ValueError):
    """An objective that cannot be trained with its settings: a result, told in its row."""


@dataclass(frozen=True)
class Trained:
    """A finished stage.

    Attributes:
        model: With its final weights.
        epoch_s: Seconds of CPU time an epoch, all threads and processes together.
        memory_mb: Largest resident memory while it trained, less that before, in 10^6 bytes; of this process alone.
            NaN where no system tells it.
    """

    model: Model
    epoch_s: float
    memory_mb: float


def trained(world: World, packed: PackedImages, stage: Stage, folder: Path, model: Model | None = None) -> Trained:
    """Trains a stage with the project's trainer.

    Args:
        world: Features, backbone and seed.
        packed: The images, with the split to train on.
        stage: What is trained.
        folder: Of checkpoints and curves. A start that was broken off goes on from there.
        model: What an earlier stage left; None begins with the world's backbone and a fresh head.

    Raises:
        CannotTrainError: a loss that is not finite, or clusters without classes.
    """
    recipe = world.run.recipe
    train_set = TrainSet(recipe, stage, packed)
    if model is None:
        counts = np.bincount(train_set.labels, weights=train_set.repeats, minlength=train_set.n_classes)
        labels = torch.from_numpy(train_set.labels)
        seed = seed_of(recipe.seed, stage.name)
        model = build_model(world.encoder.backbone, stage, torch.from_numpy(counts), labels, seed)
        model = model.to(world.accelerator.device)
    open_parts(model, stage)
    folder.mkdir(parents=True, exist_ok=True)
    batches: Batches = (
        FeatureBatches(stage, train_set, world, world.encoder)  # type: ignore[arg-type]
        if stage.is_backbone_frozen
        else ImageBatches(recipe, stage, packed, train_set, world.accelerator)
    )
    before = peak_memory() if _forget_peak() else float("nan")
    began = cpu_seconds()
    key = repr((stage, recipe.seed, code_commit()))  # other code may have other buffers
    checkpoint = Checkpoint(folder / "last.pt", key, stage.name, world.accelerator)
    try:
        trainer = Trainer(stage, recipe.seed, model, batches, train_set, checkpoint, _unscored, Curves(None))
        n_left = stage.optim.n_epochs - trainer.state.epoch - trainer.state.step / train_set.n_steps
        trainer.run()
    except ValueError as error:
        if LOADER in str(error):  # images that are gone or damaged are no result
            raise
        raise CannotTrainError(str(error)) from error
    found = Trained(model, (cpu_seconds() - began) / n_left, (peak_memory() - before) / 1e6)
    world.accelerator.free_memory()
    (folder / "last.pt").unlink(missing_ok=True)
    return found


def _unscored() -> dict[str, float]:
    raise RuntimeError("stages of this benchmark are scored after their end")


def cpu_seconds() -> float:
    """Of this process, and of those that it started and that have ended. Other programs on the cores do not count."""
    of_children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + of_children.ru_utime + of_children.ru_stime


def _forget_peak() -> bool:
    """Gives freed memory back and lets the largest resident memory be counted anew. Returns whether that is possible:
    it takes a Linux whose /proc/self/clear_refs takes that order, which a sandbox may lack."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except (AttributeError, OSError):
        return False
    return True


def val_features(world: World, packed: PackedImages, model: Model, image_px: int) -> np.ndarray:
    """Features of the validation images with the model's backbone as it is now, float32 [n_val, feature_dim]."""
    rows = rows_of(packed, "val")
    store = FeatureStore(world.run, packed, world.accelerator)
    encoder = Encoder.of(model.backbone, world.run.recipe.model, image_px)
    found = np.array(store.get(encoder, "plain", rows)[:])
    store.forget(encoder, "plain", rows)
    return found


def embedded(model: Model, features: np.ndarray) -> np.ndarray:
    """float32 [n, dim], of features, float32 [n, feature_dim]."""
    return after_neck(model.neck, features)


def after_neck(neck: Neck, features: np.ndarray) -> np.ndarray:
    """float32 [n, dim], of what a neck takes, float32 [n, feature_dim (+ 3)], computed where the neck is."""
    neck.eval()
    device = next((tensor.device for tensor in neck.state_dict().values()), None)
    with torch.no_grad():
        embeddings: np.ndarray = neck(torch.from_numpy(features).to(device)).cpu().numpy()
    return embeddings


def retrieval(embeddings: np.ndarray, val: pd.DataFrame) -> pd.DataFrame:
    """Every metric of every validation image, which searches all others of all domains.

    Args:
        embeddings: float [n, dim].
        val: image_id, class_id and domain of each.
    """
    return scored(embeddings, val, merged(val), is_quiet=True)


def mean(queries: pd.DataFrame, metric: str) -> float:
    """A metric's mean over the domains."""
    return mean_of_domains(queries[metric].to_numpy(), queries["domain"].to_numpy())[0]


def all_scores(embeddings: np.ndarray, val: pd.DataFrame) -> dict[str, float]:
    """mP@5 with its interval over classes, R@1, MAP@R, NMI, rho and density, rounded."""
    queries = retrieval(embeddings, val)
    low, high = class_interval(*(queries[name].to_numpy() for name in ("mp5", "class_id", "domain")))
    labels = val["class_id"].to_numpy()
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    intra, inter = density(unit, labels)
    found = {
        **{metric: mean(queries, metric) for metric in ("mp5", "r1", "map_at_r")},
        "mp5_low": low,
        "mp5_high": high,
        "nmi": normalized_mutual_info_score(*k_means_clusters(embeddings, labels)),
        "spectral_decay": spectral_decay(unit),
        "density": intra / inter,
    }
    return {name: round(float(value), 6) for name, value in found.items()}


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """The recipe with another seed."""
    return replace(recipe, seed=seed).validate()
