"""Triplets drawn within a batch, and the margin loss over them, as the families with several embeddings use it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from guie.train.objectives.distances import FARTHEST, log_inverse_density, row_distances, unit_distances
from guie.train.objectives.draws import Triplets, draw, draw_equally, mates, triplet_of_each


@torch.no_grad()
def draw_by_distance(unit: Tensor, is_allowed: Tensor, generator: torch.Generator) -> Tensor:
    """One allowed column for each row, drawn with weight 1/q(d) of its distance, int64 [n, 1]; -1 where none is
    allowed.

    Columns farther than 1.4 are drawn only where no allowed one is nearer, with equal weights.

    Args:
        unit: float [n, dim], of length 1.
        is_allowed: bool [n, n].
        generator: On their device.
    """
    distances = unit_distances(unit, unit)
    is_near = is_allowed & (distances < FARTHEST)
    is_drawn = torch.where(is_near.any(dim=1, keepdim=True), is_near, is_allowed)
    return draw(log_inverse_density(distances, unit.shape[1]), is_drawn, generator)


def class_triplets(unit: Tensor, labels: Tensor, generator: torch.Generator) -> Triplets:
    """For each row a random other one of its class, and one of another class, drawn by distance.

    Args:
        unit: float [n, dim], of length 1.
        labels: int64 [n]; negative ones are of no class and in no triplet.
        generator: On their device.
    """
    is_known = (labels >= 0)[:, None] & (labels >= 0)
    positives = draw_equally(mates(labels) & is_known, generator)
    is_other = labels[:, None] != labels
    return triplet_of_each(positives, draw_by_distance(unit, is_other & is_known, generator))


def three_class_triplets(unit: Tensor, labels: Tensor, generator: torch.Generator) -> Triplets:
    """For each row a random one of another class as its positive, and one of a third class, drawn by distance.

    Source: Milbich et al., Sharing matters for generalization in deep metric learning, arXiv 2004.05582.
    """
    is_other = labels[:, None] != labels
    positives = draw_equally(is_other, generator)
    is_third = is_other & (labels[positives] != labels)
    return triplet_of_each(positives, draw_by_distance(unit, is_third, generator))


def one_class_triplets(labels: Tensor, items: Tensor, generator: torch.Generator) -> Triplets:
    """For each row two random ones of its class; the three are of different images.

    Args:
        labels: int64 [n].
        items: int64 [n], the image of each row.
        generator: On their device.
    """
    is_mate = (labels[:, None] == labels) & (items[:, None] != items)
    positives = draw_equally(is_mate, generator)
    return triplet_of_each(positives, draw_equally(is_mate & (items[positives] != items), generator))


def margin_loss(unit: Tensor, triplets: Triplets, margin: float, beta: float | Tensor) -> tuple[Tensor, Tensor]:
    """The margin loss over triplets, and the share of their pairs that have a part in it.

    Pairs with the positive cost relu(d - beta + margin), those with the negative relu(beta - d + margin). The loss is
    the sum over the number of pairs that cost something. Without a triplet it is 0, still with its graph.

    Args:
        unit: float [n, dim], of length 1.
        triplets: Rows of `unit`.
        margin: alpha, a distance.
        beta: A distance, of all triplets or of each, float [n_triplets].

    Source: Wu et al., Sampling matters in deep embedding learning, ICCV 2017, arXiv 1706.07567; the mean as in
    pytorch-metric-learning.
    """
    near = F.relu(row_distances(unit[triplets.anchors], unit[triplets.positives]) - (beta - margin))
    far = F.relu(beta + margin - row_distances(unit[triplets.anchors], unit[triplets.negatives]))
    n_active = (near > 0).sum() + (far > 0).sum()
    share = n_active / (2 * len(triplets.anchors)) if len(triplets.anchors) else torch.tensor(math.nan)
    return (near.sum() + far.sum()) / n_active.clamp_min(1), share
