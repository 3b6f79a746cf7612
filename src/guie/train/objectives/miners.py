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
from guie.train.objectives.distances import log_inverse_density
from guie.train.objectives.draws import draw
from guie.train.objectives.triplet_lists import list_within, places_of


@torch.no_grad()
def mine(miner: Miner, compared: Compared, most: int, generator: torch.Generator) -> Chosen:
    """The pairs or triplets that the miner takes.

    Args:
        miner: Its settings.
        compared: The rows and what they are compared with.
        most: Triplets of an anchor, where the miner takes all of a kind.
        generator: On their device.
    """
    match miner:
        case BatchHard():
            return _batch_hard(compared)
        case SemiHard():
            return _semi_hard(miner, compared, most, generator)
        case EasyPositive():
            return _easy_positive(miner, compared)
        case DistanceWeighted():
            return _distance_weighted(miner, compared, generator)
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


def _semi_hard(miner: SemiHard, compared: Compared, most: int, generator: torch.Generator) -> Chosen:
    positive, negative = compared.is_positive, compared.is_negative
    return list_within(compared.distances(), positive, negative, miner.margin_distance, most, generator)


def _easy_positive(miner: EasyPositive, compared: Compared) -> Chosen:
    distances = compared.distances()
    own, positives = _nearest(distances, compared.is_positive)
    allowed = compared.is_negative
    if miner.negatives == "semihard":
        allowed = allowed & (distances > own[:, None])
    nearest, negatives = _nearest(distances, allowed)
    return _kept(positives, negatives, own.isfinite() & nearest.isfinite())


def _distance_weighted(miner: DistanceWeighted, compared: Compared, generator: torch.Generator) -> Chosen:
    """A row draws as many negatives as it has positives: a matrix of pairs by negatives is not made."""
    distances = compared.distances()
    is_near = compared.is_negative & (distances < miner.max_distance)
    anchors, positives = compared.is_positive.nonzero(as_tuple=True)
    has_negative = is_near.any(dim=1)[anchors]
    anchors = anchors[has_negative]
    positives = positives[has_negative]
    if not len(anchors):
        return anchors, positives, positives
    weights = log_inverse_density(distances, compared.rows.shape[1], miner.cutoff_distance, miner.max_distance)
    places = places_of(anchors, len(distances))
    drawn = draw(weights, is_near, generator, int(places.max()) + 1)
    return anchors, positives, drawn[anchors, places]


def _multi_similarity(miner: MultiSimilarityMiner, compared: Compared) -> Chosen:
    cosines = compared.cosines()
    least = _nearest(cosines, compared.is_positive)[0][:, None]  # of the farthest positive, inf where there is none
    largest = _farthest(cosines, compared.is_negative)[0][:, None]  # of the nearest negative, -inf where there is none
    positive = compared.is_positive & (cosines - miner.epsilon_cosine < largest)
    negative = compared.is_negative & (cosines + miner.epsilon_cosine > least)
    return (*positive.nonzero(as_tuple=True), *negative.nonzero(as_tuple=True))
