"""Random draws of the objectives. They depend on the step alone, so that a step can be computed again with the same
draws."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from guie.seeds import seed_of
from guie.train.objectives.base import Batch


def generator_of(batch: Batch, purpose: str) -> torch.Generator:
    """Random numbers on the batch's device, the same on every process and whenever the step is computed again.

    Args:
        batch: Its seed differs between recipes' seeds, stages and steps.
        purpose: The objective that draws: two objectives of a sum draw different numbers.
    """
    return torch.Generator(batch.labels.device).manual_seed(seed_of(batch.seed, batch.step, purpose))


def mates(labels: Tensor, other_labels: Tensor | None = None) -> Tensor:
    """Which pairs are of two rows of one class, bool [n, m]; a row is no mate of itself.

    Args:
        labels: int64 [n], the classes of a batch.
        other_labels: int64 [m], those of the batch and of what follows it, a memory; without them the batch's alone.
    """
    others = labels if other_labels is None else other_labels
    return (labels[:, None] == others) & ~torch.eye(len(labels), len(others), dtype=torch.bool, device=labels.device)


@torch.no_grad()
def draw(log_weights: Tensor, is_allowed: Tensor, generator: torch.Generator, n_draws: int = 1) -> Tensor:
    """Allowed columns for each row, drawn in proportion to exp(log_weights), int64 [n, n_draws]; -1 where none is
    allowed.

    A row may draw a column several times. One random number is needed for a draw, not one for each column. Weights are
    relative to the largest of the row, so that no row's underflow together.

    Args:
        log_weights: float [n, m].
        is_allowed: bool [n, m].
        generator: On their device.
        n_draws: For each row.
    """
    logs = log_weights.masked_fill(~is_allowed, -math.inf)
    weights = (logs - logs.max(dim=1, keepdim=True).values).exp()
    sums = weights.cumsum(dim=1, dtype=torch.float64)
    spots = _uniform(len(logs), n_draws, generator) * sums[:, -1:]
    # embeddings that are not finite find no column: the trainer tells of the loss that they give
    columns = torch.searchsorted(sums, spots, right=True).clamp_max(logs.shape[1] - 1)
    return columns.masked_fill(~is_allowed.any(dim=1, keepdim=True), -1)


@torch.no_grad()
def draw_equally(is_allowed: Tensor, generator: torch.Generator, n_draws: int = 1) -> Tensor:
    """Allowed columns for each row, all equally likely, int64 [n, n_draws]; -1 where none is allowed.

    Args:
        is_allowed: bool [n, m].
        generator: On its device.
        n_draws: For each row; a row may draw a column several times.
    """
    ranks = is_allowed.cumsum(dim=1, dtype=torch.int32)
    n_allowed = ranks[:, -1:]
    wanted = (_uniform(len(ranks), n_draws, generator) * n_allowed).to(torch.int32)
    return torch.searchsorted(ranks, wanted, right=True).masked_fill(n_allowed == 0, -1)


def _uniform(n: int, n_draws: int, generator: torch.Generator) -> Tensor:
    """float64 [n, n_draws], at least 0 and below 1."""
    return torch.rand(n, n_draws, dtype=torch.float64, device=generator.device, generator=generator)


@dataclass(frozen=True)
class Triplets:
    """Rows of a batch, int64 [n_triplets] each.

    Attributes:
        anchors: Rows that are compared with the others.
        positives: Rows that are pulled towards the anchor.
        negatives: Rows that are pushed away from it.
    """

    anchors: Tensor
    positives: Tensor
    negatives: Tensor


def triplet_of_each(positives: Tensor, negatives: Tensor) -> Triplets:
    """The triplets of those rows that have drawn both.

    Args:
        positives: int64 [n, 1], a row for each row; -1 for none.
        negatives: int64 [n, 1].
    """
    anchors = ((positives >= 0) & (negatives >= 0)).nonzero()[:, 0]
    return Triplets(anchors, positives[anchors, 0], negatives[anchors, 0])
