"""What every step does, as pure functions of the recipe: which rows, which learning rate, which random numbers.

Nothing here has a state, so a run that resumes at any step goes on exactly as the run that was never broken off.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from guie.seeds import seed_of
from guie.settings.optim import Constant, Cosine, Exponential, OneCycle, Optim, Steps

START_DIVISOR = 25.0  # one_cycle starts at lr / 25, as torch's OneCycleLR


def sample_weights(
    class_ids: np.ndarray, repeats: np.ndarray, power: float, factors: np.ndarray | float = 1.0
) -> np.ndarray:
    """The chance of each image to be drawn, float64 [n], summing to 1.

    Args:
        class_ids: int [n].
        repeats: int [n], how often the balanced list holds the image.
        power: An image of a class with c rows has weight c ** power for each of its rows.
        factors: float [n], how many times as often each is drawn for other reasons.
    """
    counts = np.bincount(class_ids, weights=repeats)[class_ids]
    weights = factors * repeats * counts.astype(np.float64) ** power
    return weights / weights.sum()


def n_steps_of(batch_size: int, n_rows: int) -> int:
    """Steps in an epoch: whole batches only, and at least one."""
    return max(1, n_rows // batch_size)


def epoch_order(
    class_ids: np.ndarray, repeats: np.ndarray, n: int, power: float, factors: np.ndarray, *seed: Any
) -> np.ndarray:
    """Image numbers in the order of one epoch, int64 [n].

    Without re-weighting (power 0 and all factors equal) every row of the balanced list comes once, shuffled, before any
    comes again; else images are drawn by `sample_weights`.
    """
    rng = np.random.default_rng(seed_of(*seed, "order"))
    if power == 0.0 and (factors == factors[0]).all():
        rows = np.repeat(np.arange(len(class_ids)), repeats)
        return np.concatenate([rng.permutation(rows) for _ in range(math.ceil(n / len(rows)))])[:n]
    return rng.choice(len(class_ids), size=n, p=sample_weights(class_ids, repeats, power, factors))


def turns(groups: np.ndarray, n_steps: int, *seed: Any) -> np.ndarray:
    """The group of each batch of an epoch, int64 [n_steps]: all groups take turns, in an order drawn for the epoch.

    Args:
        groups: int [n], the group of each image; negative ones take no turn.
        n_steps: Batches.
        seed: Texts and numbers.
    """
    order = np.random.default_rng(seed_of(*seed, "turns")).permutation(np.unique(groups[groups >= 0]))
    return np.resize(order, n_steps)


def class_batches(
    class_ids: np.ndarray,
    weights: np.ndarray,
    n_steps: int,
    batch_size: int,
    per_class: int,
    *seed: Any,
    n_views: int = 1,
) -> np.ndarray:
    """Image numbers of batches with `per_class` images of each of their classes, int64 [n_steps, batch_size].

    Each batch has batch_size / (per_class * n_views) distinct classes, drawn without replacement in proportion to the
    total weight of their images. From each class `per_class` images are drawn without replacement. A class with fewer
    images repeats them as evenly as possible. Each image stands `n_views` times, one after the other.

    Args:
        class_ids: int [n], from 0; enough different ones for a batch.
        weights: float [n], see `sample_weights`; all above 0.
        n_steps: Batches.
        batch_size: A multiple of per_class * n_views.
        per_class: Images of each class.
        seed: Texts and numbers.
        n_views: Rows of each image.

    Raises:
        ValueError: there are fewer classes than a batch needs.
    """
    rng = np.random.default_rng(seed_of(*seed, "class batches"))
    order = np.argsort(class_ids, kind="stable")
    starts = np.searchsorted(class_ids[order], np.arange(class_ids.max() + 2))
    chances = np.cumsum(np.bincount(class_ids, weights=weights))
    items = np.empty((n_steps, batch_size // (per_class * n_views), per_class), np.int64)
    n_classes = len(np.unique(class_ids))
    if n_classes < items.shape[1]:
        raise ValueError(f"a batch needs {items.shape[1]} classes, and there are {n_classes}; make the batch smaller")
    for step in items:
        for row, class_id in zip(step, _distinct(chances, len(step), rng), strict=False):
            images = order[starts[class_id] : starts[class_id + 1]]
            n_whole, n_rest = divmod(per_class, len(images))
            row[:] = np.concatenate([np.tile(images, n_whole), rng.permutation(images)[:n_rest]])
    return items.repeat(n_views, axis=2).reshape(n_steps, batch_size)


def _distinct(chances: np.ndarray, n: int, rng: np.random.Generator) -> list[int]:
    """At least `n` different numbers in the order in which they are drawn; `chances` are their weights, added up."""
    chosen: dict[int, None] = {}
    while len(chosen) < n:
        drawn = np.searchsorted(chances, rng.random(n) * chances[-1], side="right")
        chosen |= dict.fromkeys(np.minimum(drawn, len(chances) - 1).tolist())
    return list(chosen)


def lr_at(optim: Optim, step: int, n_steps: int) -> float:
    """The learning rate of a step, counted from 0, of `n_steps` in the whole stage; see the schedules' classes for
    their curves."""
    schedule = optim.schedule
    n_warmup = max(1, round(schedule.warmup_share * n_steps)) if schedule.warmup_share else 0
    if step < n_warmup:
        share = (step + 1) / n_warmup
        if isinstance(schedule, OneCycle):
            return optim.lr * (1 / START_DIVISOR + (1 - 1 / START_DIVISOR) * (1 - math.cos(math.pi * share)) / 2)
        return optim.lr * share
    match schedule:
        case Constant():
            return optim.lr
        case Steps(drops=drops):
            epoch = step * optim.n_epochs // n_steps
            return optim.lr * 0.1 ** sum(epoch >= drop for drop in drops)
        case Exponential(epoch_decay=decay):
            return optim.lr * decay ** ((step - n_warmup) * optim.n_epochs / n_steps)
    end_share = schedule.end_share if isinstance(schedule, Cosine) else 0.0
    share = (step - n_warmup + 1) / max(1, n_steps - n_warmup)
    return optim.lr * (end_share + (1 - end_share) * (1 + math.cos(math.pi * min(1.0, share))) / 2)
