"""Runs one row of a recipe: skips it if it is finished, else loads the start weights, trains or averages, validates and
writes the done-mark."""

from __future__ import annotations

import copy
import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from guie.data.packed import PackedImages, images_of
from guie.done import is_done, mark_done, read_done, remove_damaged
from guie.embed.accelerator import make_accelerator, precision_of
from guie.embed.ensemble import load_backbone, stage_weights
from guie.embed.features import Encoder, FeatureStore
from guie.embed.fitted import check_rows
from guie.errors import memory_remedy
from guie.files import save_weights
from guie.model.check import check_models
from guie.model.normalisation import mean_std
from guie.run import Run, keep_conditions
from guie.seeds import seed_of
from guie.settings.mixed import Interpolate, Soup
from guie.settings.names import PRETRAINED
from guie.settings.sampling import PerClass
from guie.settings.stage import Row, Stage
from guie.train.batches import Batches, FeatureBatches, ImageBatches, less_memory
from guie.train.curves import Curves, write_curves
from guie.train.interpolate import interpolate_weights
from guie.train.model import Model, build_model, load_parts
from guie.train.parameters import blocks_of, open_parts
from guie.train.retain import retained
from guie.train.row_inputs import inputs_of, plan_of, read_of, settings_of
from guie.train.sharding import full_tensor, is_sharded, own_part, shard
from guie.train.soup import average_weights
from guie.train.state import Checkpoint
from guie.train.teacher import taught_by
from guie.train.trackers import TrackedStage
from guie.train.train_set import TrainSet
from guie.train.trainer import Trainer
from guie.train.validation import validated

log = logging.getLogger(__name__)


def train_phase(run: Run, phase: str) -> dict[str, Any]:
    """Runs the recipe's rows of one phase, one after the other; finished ones are skipped.

    Returns:
        The validation scores of the phase's last row, the number of rows and their seconds, and the mean and std of the
        pixels.
    """
    accelerator = make_accelerator(run.device, precision_of(run.device))
    is_first = phase == "head"  # door 04 is the first that needs the models
    mean, std = check_models(run.recipe) if is_first else mean_std(run.recipe.model)
    packed = images_of(run)
    check_rows(run, packed)
    rows, results = run.recipe.stages.of_phase(phase), []
    for row in rows:
        with memory_remedy(less_memory(run.recipe.stage(row.name))):
            results.append(train_row(run, row, packed, accelerator))
    if not rows:
        log.info("the recipe has no stage of phase %r; nothing to train", phase)
    last = results[-1] if results else {}
    seconds = sum(result["stage_seconds"] for result in results)
    return {"n_stages": len(rows), **last, "mean": mean, "std": std, "stage_seconds": seconds}


def train_row(
    run: Run, row: Row, packed: PackedImages, accelerator: Accelerator, **trainer_words: Any
) -> dict[str, Any]:
    """Trains a stage from its parent's weights, or mixes other rows' weights, and writes the row's folder.

    Args:
        run: Recipe and folders.
        row: One of the recipe's.
        packed: The images of both splits.
        accelerator: Of all processes.
        **trainer_words: Further arguments of the `Trainer`.

    Returns:
        Its validation scores, and `stage_seconds`.

    Raises:
        ValueError: a batch that the processes cannot share equally, weights that do not fit, a loss that is not finite.
    """
    _check_processes(run.recipe.stage(row.name), accelerator)
    folder = run.stage_folder(row.name)
    settings = settings_of(run, row)
    inputs = inputs_of(run, row)
    if is_done(folder, settings, inputs, run.verify):
        return _noted(folder, row.name, accelerator)
    log.info("stage %s: %s", row.name, plan_of(run, row))
    started = time.time()
    _clear(folder, run, accelerator)
    store = FeatureStore(run, packed, accelerator)
    checkpoint = Checkpoint(folder / "last.pt", f"{settings} {inputs}", row.name, accelerator)
    model, trainer, found = _result(run, row, store, checkpoint, trainer_words)
    started = trainer.started if trainer else started
    scores = _scores(run, row, model, store)
    if accelerator.is_main_process:
        _write(folder, model, trainer, scores, found)
        mark_done(run, folder, f"stage {row.name}", settings, inputs, started, scores, read_of(run, row))
        (folder / "last.pt").unlink(missing_ok=True)
    if trainer is not None:
        trainer.curves.finish(scores, trainer.state.history[-1])
    accelerator.free_memory()  # it would keep this stage's model and optimizer as long as the phase lasts
    accelerator.wait_for_everyone()
    return {**scores, "stage_seconds": time.time() - started}


def _result(
    run: Run, row: Row, store: FeatureStore, checkpoint: Checkpoint, words: dict[str, Any]
) -> tuple[Model, Trainer | None, dict[str, float]]:
    """The row's model with its final weights, what trained it, and what was found on the way.

    Nothing trains a soup or an interpolation; of the latter the share is found.
    """
    train_set = TrainSet(run.recipe, run.recipe.stage(row.name), store.packed)
    model = _start(run, row, train_set).to(store.accelerator.device)
    match row:
        case Soup():
            average_weights(run, row, model, store)
            return model, None, {}
        case Interpolate():
            return model, None, interpolate_weights(run, row, model, store)
    trainer, model = _trained(run, row, model, train_set, store, checkpoint, words)
    return model, trainer, {}


def _noted(folder: Path, name: str, accelerator: Accelerator) -> dict[str, Any]:
    """The scores and seconds in a finished row's done-mark. Sets torch's number of threads to the row's, for the rows
    after it."""
    log.info("stage %s: already done", name)
    mark = read_done(folder)
    assert mark is not None
    keep_conditions(name, mark, accelerator.device.type)
    return {**mark["metrics"], "stage_seconds": mark["seconds"]}


def _scores(run: Run, row: Row, model: Model, store: FeatureStore) -> dict[str, float]:
    """The validation scores of the row's result, as they are noted and logged."""
    stage = run.recipe.stage(row.name)
    found = validated(run, stage, model, store, is_kept=True)
    scores = {name: round(value, 6) for name, value in found.items()}
    if stage.left_out is None:
        log.info("stage %s: validation mP@5 %.3f, R@1 %.3f", row.name, scores["mp5"], scores["r1"])
    else:
        text = "stage %s: mP@5 of %s %.3f, R@1 %.3f; these are training classes that it left out"
        log.info(text, row.name, stage.left_out, scores["mp5"], scores["r1"])
    return scores


def _write(
    folder: Path, model: Model, trainer: Trainer | None, scores: dict[str, float], found: dict[str, float]
) -> None:
    """The row's curves and weights."""
    history = trainer.state.history if trainer else [found]
    write_curves(folder, _with_scores(history, trainer, scores), trainer.state.points if trainer else [])
    save_weights(folder / "final.safetensors", model.result())


def _check_processes(stage: Stage, accelerator: Accelerator) -> None:
    batch_size, n = stage.optim.batch_size, accelerator.num_processes
    if batch_size % n:
        raise ValueError(
            f"stages.{stage.name}.optim.batch_size is {batch_size}, which {n} processes cannot share equally; make it "
            f"a multiple of {n}"
        )


def _clear(folder: Path, run: Run, accelerator: Accelerator) -> None:
    """Removes what an earlier start left there and this one will write anew; the checkpoint stays."""
    if accelerator.is_main_process:
        remove_damaged(folder, run.verify)
    with accelerator.main_process_first():
        for name in ("done.json", "not_finite.txt"):
            (folder / name).unlink(missing_ok=True)


def _start(run: Run, row: Row, train_set: TrainSet) -> Model:
    """The model with its parent's weights, but for the parts that the stage starts anew; of a row that trains nothing,
    its shape."""
    stage, parent = run.recipe.stage(row.name), run.recipe.parent(row)
    backbone = load_backbone(run, parent, stage.image_px, stage.patch_stride, run.recipe.model_of(row.name))
    n = train_set.n_classes
    counts = np.bincount(train_set.labels, weights=train_set.repeats, minlength=n)[:n]
    seed = seed_of(run.recipe.seed, row.name)
    taught_dims = {
        name: backbone.feature_dim if name == PRETRAINED else run.recipe.stage(name).neck.dim for name in stage.reads
    }
    model = build_model(
        backbone, stage, torch.from_numpy(counts), torch.from_numpy(train_set.labels), seed, taught_dims
    )
    if isinstance(row, Stage) and parent != PRETRAINED:
        weights_of = partial(stage_weights, run, parent)
        load_parts(model, weights_of, row.start.fresh, f"stage {row.name} from {parent}")
    return model


def _trained(
    run: Run,
    stage: Stage,
    model: Model,
    train_set: TrainSet,
    store: FeatureStore,
    checkpoint: Checkpoint,
    words: dict[str, Any],
) -> tuple[Trainer, Model]:
    """Trains the stage; returns the trainer, and the model with all of its weights in this process."""
    accelerator = store.accelerator
    _warn_of_single_images(stage, train_set)
    open_parts(model, stage)
    batches = _batches(run, stage, model, train_set, store)
    start = None
    if stage.retain.features_weight:
        start = store.get(_encoder(run, stage, model), "plain", train_set.rows)
    plain = None
    if stage.cost.has_sharded_weights and accelerator.num_processes > 1:
        _check_sharding(stage, accelerator)
        plain = copy.deepcopy(model).cpu()
        _spread(stage, model, accelerator)
    model.retained = retained(stage.retain, start, train_set.is_generic, dict(model.trained()))

    def validate() -> dict[str, float]:
        scores = validated(run, stage, _whole(model, plain, accelerator), store, is_kept=stage.is_backbone_frozen)
        if plain is not None:
            plain.cpu()  # the card has no room for it while it trains
        return scores

    place = TrackedStage(run.tracker, run.out, run.recipe.name, stage) if accelerator.is_main_process else None
    trainer = Trainer(stage, run.recipe.seed, model, batches, train_set, checkpoint, validate, Curves(place), **words)
    trainer.run()
    return trainer, _whole(model, plain, accelerator)


def _batches(run: Run, stage: Stage, model: Model, train_set: TrainSet, store: FeatureStore) -> Batches:
    """The inputs of the stage's steps: cached features where the backbone is frozen, else images."""
    taught = taught_by(stage, store, train_set.rows)
    if stage.is_backbone_frozen:
        return FeatureBatches(stage, train_set, store, _encoder(run, stage, model), taught)
    return ImageBatches(run.recipe, stage, store.packed, train_set, store.accelerator, taught)


def _encoder(run: Run, stage: Stage, model: Model) -> Encoder:
    """The backbone as it is now; making it reads all weights, for their digest."""
    return Encoder.of(model.backbone, run.recipe.model_of(stage.name), stage.image_px, stage.patch_stride)


def _warn_of_single_images(stage: Stage, train_set: TrainSet) -> None:
    """Says how many classes have one image, where the objective compares the images of a class."""
    n_single = int((np.bincount(train_set.labels[~train_set.is_hidden]) == 1).sum())
    if stage.objective.needs_positives and n_single:
        what = "is its own positive" if isinstance(stage.sampling, PerClass) else "has no positive"
        text = "stages.%s: %d of %d classes have one image, which %s; raise data.min_per_class to leave them out"
        log.warning(text, stage.name, n_single, train_set.n_classes, what)


def _check_sharding(stage: Stage, accelerator: Accelerator) -> None:
    """Raises ValueError where torch's loss scaler would meet sharded and whole gradients in one call, which it cannot
    take."""
    if accelerator.scaler is not None and stage.trains == "all":
        raise ValueError(
            f"stages.{stage.name}: this card computes in fp16 (it has no bf16), where has_sharded_weights cannot "
            "train='all'; "
            "train the head and the backbone in stages of their own, or set cost.has_sharded_weights=false"
        )


def _spread(stage: Stage, model: Model, accelerator: Accelerator) -> None:
    """Shards the backbone, and tells how much of it this process holds."""
    whole_size = sum(p.numel() for p in model.backbone.parameters())
    shard(model.backbone, blocks_of(model), accelerator.device)
    own_share = sum(own_part(p).numel() for p in model.backbone.parameters()) / whole_size
    text = "stage %s: weights are spread over %d processes; this one holds %.0f %%"
    log.info(text, stage.name, accelerator.num_processes, 100 * own_share)


def _whole(model: Model, plain: Model | None, accelerator: Accelerator) -> Model:
    """The model with all of its weights in this process; `plain` is filled where they are sharded, and all processes
    must ask."""
    if plain is None or not is_sharded(model.backbone):
        return model
    plain.load_state_dict({name: full_tensor(tensor).cpu() for name, tensor in model.state_dict().items()})
    return plain.to(accelerator.device)


def _with_scores(
    history: list[dict[str, Any]], trainer: Trainer | None, scores: dict[str, float]
) -> list[dict[str, Any]]:
    """The rows of metrics.csv; the last one gets the stage's scores, unless another epoch was kept, whose row has
    them."""
    if not (trainer and trainer.state.best):
        history[-1] |= {"val_mp5": scores["mp5"], "val_r1": scores["r1"]}
    return history
