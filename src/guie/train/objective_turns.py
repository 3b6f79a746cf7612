"""Calls an objective's updates at the start of an epoch and after a step, and keeps its state equal on all
processes."""

from __future__ import annotations

from accelerate import Accelerator

from guie.seeds import seed_of
from guie.settings.stage import Start
from guie.train.exchange import share, share_head
from guie.train.gradient import Position, seed_generators
from guie.train.model import Model
from guie.train.objectives.base import Batch, Look
from guie.train.pca_start import start_from_pca
from guie.train.sharding import ends_everywhere


def begin_epoch(model: Model, start: Start, epoch: int, look: Look, seed: int, accelerator: Accelerator) -> None:
    """Lets neck and objective prepare for an epoch, then copies process 0's head to all processes.

    Args:
        model: Its head prepares.
        start: The stage's: whether the neck starts as a PCA.
        epoch: Counted from 0.
        look: The training set as the model sees it.
        seed: Of random numbers.
        accelerator: Of the processes; an error of one ends all.
    """
    seed_generators(seed, accelerator.device)
    with ends_everywhere(accelerator):
        if epoch == 0 and start.has_pca_neck:
            start_from_pca(model.neck, look)
        model.objective.begin_epoch(epoch, look)
    share_head(model, accelerator)


def after_step(model: Model, batch: Batch | None, look: Look, place: Position, accelerator: Accelerator) -> None:
    """Lets the objective update its state (memory, policy, curves), and shares it where processes could differ.

    Args:
        model: Its objective changes.
        batch: Of all processes, without its graph; None where an additive objective does not count it.
        look: The training set as the model sees it.
        place: Of the step.
        accelerator: Of the processes.
    """
    if model.objective.is_additive and not place.is_counted:
        return
    assert batch is not None
    seed_generators(seed_of(place.seed, "after step"), accelerator.device)
    seen = batch if model.retained is None else model.retained.seen(batch)
    if seen is not None:
        model.objective.after_step(seen, look)
    if model.objective.is_shared_after(place.step):
        share(model.objective.buffers(), accelerator)
