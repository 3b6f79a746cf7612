"""Which pairs or triplets a loss is computed of. Nothing here has a gradient.

They are ours. pytorch-metric-learning's miners leave out the pair of a row with itself only where a batch is compared
with itself; beside a memory each row would be its own nearest positive.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from guie.settings.objectives.miners import (
    BatchHard,
    DistanceWeighted,
    EasyPositive,
    Miner,
    MultiSimilarityMiner,
    SemiHard,
)
from guie.train.objectives.compared import Chosen, Compared


@torch.no_grad()
def mine(miner: Miner, compared: Compared) -> Chosen:
    """The pairs or triplets that the miner takes; draws with torch's default generator."""
    match miner:
        case BatchHard():
            return _batch_hard(compared)
        case SemiHard():
            return _semi_hard(miner, compared)
        case EasyPositive():
            return _easy_positive(miner, compared)
        case DistanceWeighted():
            return _distance_weighted(miner, compared)
        case MultiSimilarityMiner():
            return _multi_similarity(miner, compared)


def _farthest(distances: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The largest distance of each row within the mask, float [n], -inf where there is none, and its place."""
    found = distances.masked_fill(~mask, -math.inf).max(dim=1)
    return found.values, found.indices


def _nearest(distances: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest distance of each row within the mask, float [n], inf where there is none, and its place."""
    found = distances.masked_fill(~mask, math.inf).min(dim=1)
    return found.values, found.indices


def _kept(positives: Tensor, negatives: Tensor, is_kept: Tensor) -> Chosen:
    """One triplet of each row that is kept."""
    anchors = is_kept.nonzero()[:, 0]
    return anchors, positives[anchors], negatives[anchors]


def _batch_hard(compared: Compared) -> Chosen:
    distances = compared.distances()
    farthest, positives = _farthest(distances, compared.is_positive)
    nearest, negatives = _nearest(distances, compared.is_negative)
    return _kept(positives, negatives, farthest.isfinite() & nearest.isfinite())


def _semi_hard(miner: SemiHard, compared: Compared) -> Chosen:
    distances = compared.distances()
    anchors, positives, negatives = compared.triplets()
    farther_by = distances[anchors, negatives] - distances[anchors, positives]
    is_kept = (farther_by > 0) & (farther_by <= miner.margin_distance)
    return anchors[is_kept], positives[is_kept], negatives[is_kept]


def _easy_positive(miner: EasyPositive, compared: Compared) -> Chosen:
    distances = compared.distances()
    own, positives = _nearest(distances, compared.is_positive)
    allowed = compared.is_negative
    if miner.negatives == "semihard":
        allowed = allowed & (distances > own[:, None])
    nearest, negatives = _nearest(distances, allowed)
    return _kept(positives, negatives, own.isfinite() & nearest.isfinite())


def log_weights(distances: Tensor, dim: int, cutoff: float) -> Tensor:
    """log 1 / q(d), see `DistanceWeighted`.

    Args:
        distances: float, of unit vectors.
        dim: Numbers of an embedding.
        cutoff: Nearer distances count as this.
    """
    d = distances.clamp_min(cutoff)
    return (2 - dim) * d.log() - (dim - 3) / 2 * (1 - d * d / 4).clamp_min(torch.finfo(d.dtype).eps).log()


def _distance_weighted(miner: DistanceWeighted, compared: Compared) -> Chosen:
    """The largest weight of each row is 1: with one maximum for all rows, those without a near negative would underflow
    to none."""
    distances = compared.distances()
    weights = log_weights(distances, compared.rows.shape[1], miner.cutoff_distance)
    weights = weights.masked_fill(~compared.is_negative | (distances >= miner.max_distance), -math.inf)
    largest = weights.max(dim=1, keepdim=True).values
    weights = (weights - largest.clamp_min(torch.finfo(weights.dtype).min)).exp()
    anchors, positives = compared.is_positive.nonzero(as_tuple=True)
    has_negative = largest[anchors, 0].isfinite()
    anchors = anchors[has_negative]
    positives = positives[has_negative]
    if not len(anchors):
        return anchors, positives, positives
    return anchors, positives, torch.multinomial(weights[anchors], 1)[:, 0]


def _multi_similarity(miner: MultiSimilarityMiner, compared: Compared) -> Chosen:
    cosines = compared.cosines()
    least = _nearest(cosines, compared.is_positive)[0][:, None]  # of the farthest positive, inf where there is none
    largest = _farthest(cosines, compared.is_negative)[0][:, None]  # of the nearest negative, -inf where there is none
    positive = compared.is_positive & (cosines - miner.epsilon_cosine < largest)
    negative = compared.is_negative & (cosines + miner.epsilon_cosine > least)
    return (*positive.nonzero(as_tuple=True), *negative.nonzero(as_tuple=True))
