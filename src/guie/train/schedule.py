"""What every step does, as pure functions of the recipe: which rows, which learning rate, which random numbers.

Nothing here has a state, so a run that resumes at any step goes on exactly as the run that was never broken off.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np

from guie.recipe import Stage

START_DIVISOR = 25.0  # one_cycle starts at lr / 25, as torch's OneCycleLR


def seed_of(*what: Any) -> int:
    """A seed below 2**31 from any texts and numbers, the same on every machine."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, what)).encode()).digest()[:4], "little") >> 1


def sample_weights(class_ids: np.ndarray, repeats: np.ndarray, power: float, factors: np.ndarray | float = 1.0) -> np.ndarray:
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


def n_steps_of(stage: Stage, n_rows: int) -> int:
    """Steps in an epoch: whole batches only, and at least one."""
    return max(1, n_rows // stage.batch_size)


def epoch_order(class_ids: np.ndarray, repeats: np.ndarray, n: int, power: float, factors: np.ndarray, *seed: Any) -> np.ndarray:
    """Image numbers in the order of one epoch, int64 [n].

    Without re-weighting (power 0 and all factors equal) every row of the balanced list comes once, shuffled, before any comes again; else images are
    drawn by `sample_weights`.
    """
    rng = np.random.default_rng(seed_of(*seed, "order"))
    if power == 0.0 and (factors == factors[0]).all():
        rows = np.repeat(np.arange(len(class_ids)), repeats)
        return np.concatenate([rng.permutation(rows) for _ in range(math.ceil(n / len(rows)))])[:n]
    return rng.choice(len(class_ids), size=n, p=sample_weights(class_ids, repeats, power, factors))


def lr_at(stage: Stage, step: int, n_steps: int) -> float:
    """The learning rate of a step, counted from 0, of `n_steps` in the whole stage.

    one_cycle climbs and falls along cosines; cosine climbs along a line and falls along a cosine; step drops to a tenth at the epochs named; constant
    only climbs.
    """
    warmup = max(1, round(stage.warmup_share * n_steps)) if stage.warmup_share else 0
    if step < warmup:
        share = (step + 1) / warmup
        if stage.schedule == "one_cycle":
            return stage.lr * (1 / START_DIVISOR + (1 - 1 / START_DIVISOR) * (1 - math.cos(math.pi * share)) / 2)
        return stage.lr * share
    if stage.schedule == "constant":
        return stage.lr
    if stage.schedule == "step":
        epoch = step * stage.n_epochs // n_steps
        return stage.lr * 0.1 ** sum(epoch >= drop for drop in stage.drops)
    share = (step - warmup + 1) / max(1, n_steps - warmup)
    return stage.lr * (1 + math.cos(math.pi * min(1.0, share))) / 2
