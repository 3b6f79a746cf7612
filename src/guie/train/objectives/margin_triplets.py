"""Triplets drawn within a batch, and the margin loss over them, as the families with several embeddings use it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from guie.train.objectives.base import Batch
from guie.train.schedule import seed_of

SMALLEST = 1e-16  # squared distance from which on a distance has a gradient: the root has no slope at 0
NEAREST = 0.5  # smaller distances weigh as much as this one
FARTHEST = 1.4  # a negative beyond it is drawn only where there is no nearer one


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


def generator_of(batch: Batch) -> torch.Generator:
    """Random numbers of the step: the same on every process, and whenever the step is computed again."""
    return torch.Generator().manual_seed(seed_of(batch.seed, batch.step, "triplets"))


def log_inverse_density(distances: Tensor, dim: int) -> Tensor:
    """log 1/q(d), where q(d) is the density of the distance of two random points on the unit sphere.

    Distances below .5 and above 1.4 count as these: near 0 and 2 the density vanishes.

    Args:
        distances: float, of any shape.
        dim: Numbers of a point, at least 2.

    Source: Wu et al., Sampling matters in deep embedding learning, ICCV 2017, arXiv 1706.07567.
    """
    near = distances.clamp(NEAREST, FARTHEST)
    return (2 - dim) * near.log() - (dim - 3) / 2 * (1 - near.square() / 4).log()


@torch.no_grad()
def draw(log_weights: Tensor, is_allowed: Tensor, generator: torch.Generator) -> Tensor:
    """One allowed column for each row, drawn in proportion to exp(log_weights), int64 [n]; -1 where none is allowed.

    Args:
        log_weights: float [n, m].
        is_allowed: bool [n, m].
        generator: Of the CPU.
    """
    noise = torch.empty(is_allowed.shape, dtype=torch.float64).exponential_(generator=generator)
    gumbel = -noise.log().to(log_weights)  # argmax of log w + Gumbel noise is a draw in proportion to w
    columns = (log_weights + gumbel).masked_fill(~is_allowed, -math.inf).argmax(dim=1)
    return torch.where(is_allowed.any(dim=1), columns, -1)


@torch.no_grad()
def draw_by_distance(unit: Tensor, is_allowed: Tensor, generator: torch.Generator) -> Tensor:
    """One allowed column for each row, drawn with weight 1/q(d) of its distance, int64 [n]; -1 where none is allowed.

    Columns farther than 1.4 are drawn only where no allowed one is nearer, with equal weights.

    Args:
        unit: float [n, dim], of length 1.
        is_allowed: bool [n, n].
        generator: Of the CPU.
    """
    distances = (2 - 2 * unit @ unit.T).clamp_min(0).sqrt()
    is_near = is_allowed & (distances < FARTHEST)
    is_drawn = torch.where(is_near.any(dim=1, keepdim=True), is_near, is_allowed)
    return draw(log_inverse_density(distances, unit.shape[1]), is_drawn, generator)


def _triplets(positives: Tensor, negatives: Tensor) -> Triplets:
    """Those of the rows that have both."""
    anchors = ((positives >= 0) & (negatives >= 0)).nonzero()[:, 0]
    return Triplets(anchors, positives[anchors], negatives[anchors])


def class_triplets(unit: Tensor, labels: Tensor, generator: torch.Generator) -> Triplets:
    """For each row a random other one of its class, and one of another class, drawn by distance.

    Args:
        unit: float [n, dim], of length 1.
        labels: int64 [n]; negative ones are of no class and in no triplet.
        generator: Of the CPU.
    """
    is_known = (labels >= 0)[:, None] & (labels >= 0)
    is_same = labels[:, None] == labels
    is_itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positives = draw(torch.zeros_like(unit @ unit.T), is_same & is_known & ~is_itself, generator)
    return _triplets(positives, draw_by_distance(unit, ~is_same & is_known, generator))


def three_class_triplets(unit: Tensor, labels: Tensor, generator: torch.Generator) -> Triplets:
    """For each row a random one of another class as its positive, and one of a third class, drawn by distance.

    Source: Milbich et al., Sharing matters for generalization in deep metric learning, arXiv 2004.05582.
    """
    is_other = labels[:, None] != labels
    positives = draw(torch.zeros_like(unit @ unit.T), is_other, generator)
    is_third = is_other & (labels[positives][:, None] != labels)
    return _triplets(positives, draw_by_distance(unit, is_third, generator))


def one_class_triplets(unit: Tensor, labels: Tensor, items: Tensor, generator: torch.Generator) -> Triplets:
    """For each row two random ones of its class; the three are of different images.

    Args:
        unit: float [n, dim].
        labels: int64 [n].
        items: int64 [n], the image of each row.
        generator: Of the CPU.
    """
    is_mate = (labels[:, None] == labels) & (items[:, None] != items)
    equal = torch.zeros_like(unit @ unit.T)
    positives = draw(equal, is_mate, generator)
    return _triplets(positives, draw(equal, is_mate & (items[positives][:, None] != items), generator))


def margin_loss(unit: Tensor, triplets: Triplets, margin: float, beta: float | Tensor) -> tuple[Tensor, Tensor]:
    """The margin loss over triplets, and the share of their pairs that have a part in it.

    Pairs with the positive cost relu(d - beta + margin), those with the negative relu(beta - d + margin). The loss is
    the sum over the number of pairs that cost something. Without a triplet it is 0, still with its graph.

    Args:
        unit: float [n, dim], of length 1.
        triplets: Rows of `unit`.
        margin: alpha, a distance.
        beta: Of all triplets, a distance.

    Source: Wu et al., Sampling matters in deep embedding learning, ICCV 2017, arXiv 1706.07567; the mean as in
    pytorch-metric-learning.
    """
    near = F.relu(_distances(unit, triplets.anchors, triplets.positives) - (beta - margin))
    far = F.relu(beta + margin - _distances(unit, triplets.anchors, triplets.negatives))
    n_active = (near > 0).sum() + (far > 0).sum()
    share = n_active / (2 * len(triplets.anchors)) if len(triplets.anchors) else torch.tensor(math.nan)
    return (near.sum() + far.sum()) / n_active.clamp_min(1), share


def _distances(unit: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    return (unit[rows] - unit[others]).square().sum(dim=1).clamp_min(SMALLEST).sqrt()
