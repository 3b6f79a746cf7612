"""Regularisers: terms beside another objective, and tuples of which some are flipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from guie.settings.fields import check_range, within
from guie.settings.objectives.kind import BETA_LR_FACTOR, LARGEST_DISTANCE, Kind
from guie.settings.objectives.memory import Memory


@dataclass(frozen=True)
class KoLeo(Kind):
    """Each embedding is pushed away from its nearest neighbour of the batch, whatever its class: -mean log distance.

    It has no notion of a class, so it stands beside another objective: `Sum(terms=(Contrastive(), KoLeo(weight=0.7)))`.

    Attributes:
        weight: Factor of the term; IRT trains with .7.

    Source: Sablayrolles et al., Spreading vectors for similarity search, ICLR 2019, arXiv 1806.03198; El-Nouby et al.,
    arXiv 2102.05644.
    """

    compares_images = True
    needs_labels = False

    weight: float = within(0.7, low=0.0, high=1e3)


@dataclass(frozen=True)
class ThresholdConsistentMargin(Kind):
    """Pairs on the wrong side of a fixed cosine cost their distance to it, so that one threshold serves all classes.

    It was published as a term beside another objective. Alone it is a contrastive loss with two margins.

    Attributes:
        positive_margin_cosine: Pairs of one class cost what their cosine lacks to this one.
        negative_margin_cosine: Pairs of two classes cost what their cosine exceeds this one by.
        positive_weight: Factor of the mean over the pairs of one class that cost something.
        negative_weight: Factor of the mean over the pairs of two classes that cost something.
        memory: Earlier embeddings that each row is compared with, too.

    Source: Zhang et al., Threshold-consistent margin loss for open-world deep metric learning, ICLR 2024, arXiv
    2307.04047.
    """

    needs_positives = True

    positive_margin_cosine: float = within(0.9, low=-1.0, high=1.0)
    negative_margin_cosine: float = within(0.5, low=-1.0, high=1.0)
    positive_weight: float = within(1.0, low=0.0, high=1e3)
    negative_weight: float = within(1.0, low=0.0, high=1e3)
    memory: Memory | None = None


class _Rho(Kind):
    """Kinds that draw a positive and a negative for each anchor, and turn some of these tuples round.

    With probability `flip_share` the positive is the anchor itself, and the negative another image of its own class. So
    images of a class are pushed apart, too, and the embedding keeps more directions.
    """

    needs_positives = True
    flip_share: float
    nearest_distance: float
    farthest_distance: float

    def check(self, at: str) -> None:
        """Raises ValueError where the nearest distance exceeds the farthest."""
        check_range(f"{at}.nearest_distance", self.nearest_distance, 0.0, self.farthest_distance)


@dataclass(frozen=True)
class RhoMargin(_Rho):
    """R-margin: distances of positives below a learned threshold, those of negatives above it; some tuples are
    flipped.

    Attributes:
        margin_distance: Half the width of the band around the threshold that costs something (alpha).
        beta_distance: Where the learned threshold starts.
        has_class_beta: Each class learns a threshold of its own.
        beta_lr_factor: Factor of the stage's learning rate for the threshold; 0 keeps it. Published are 5e-4 for a
            model of 1e-5.
        flip_share: Probability that an anchor's tuple is flipped: .3 to .4 for CUB, .35 for Cars, .15 for SOP.
        nearest_distance: A negative nearer than this is drawn as if it were so far.
        farthest_distance: A negative farther than this is drawn as if it were so near. Two random directions are
            sqrt(2) apart.

    Source: Roth et al., Revisiting training strategies, ICML 2020, arXiv 2002.08473; the margin loss is that of Wu et
    al., ICCV 2017, arXiv 1706.07567.
    """

    has_weights = True

    margin_distance: float = within(0.2, low=0.0, high=LARGEST_DISTANCE)
    beta_distance: float = within(0.6, low=0.0, high=LARGEST_DISTANCE)
    has_class_beta: bool = False
    beta_lr_factor: float = within(BETA_LR_FACTOR, low=0.0, high=1e6)
    flip_share: float = within(0.3, low=0.0, high=1.0)
    nearest_distance: float = within(0.5, low=1e-3, high=1.99)
    farthest_distance: float = within(1.4, low=1e-3, high=1.99)

    def state_shape(self) -> tuple[Any, ...]:
        """See `Kind`."""
        return ("RhoMargin", "a threshold by class" if self.has_class_beta else "one threshold")


@dataclass(frozen=True)
class RhoTriplet(_Rho):
    """R-triplet: the negative is farther from the anchor than the positive by a margin; some tuples are flipped.

    Attributes:
        margin_distance: By how much farther.
        flip_share: Probability that an anchor's tuple is flipped.
        nearest_distance: A negative nearer than this is drawn as if it were so far.
        farthest_distance: A negative farther than this is drawn as if it were so near.

    Source: Roth et al., Revisiting training strategies, ICML 2020, arXiv 2002.08473.
    """

    margin_distance: float = within(0.2, low=0.0, high=LARGEST_DISTANCE)
    flip_share: float = within(0.3, low=0.0, high=1.0)
    nearest_distance: float = within(0.5, low=1e-3, high=1.99)
    farthest_distance: float = within(1.4, low=1e-3, high=1.99)


@dataclass(frozen=True)
class RhoContrastive(_Rho):
    """R-contrastive: positives nearer than one margin, negatives farther than another; some tuples are flipped.

    Attributes:
        positive_margin_distance: Positives nearer than this cost nothing.
        negative_margin_distance: Negatives farther than this cost nothing.
        flip_share: Probability that an anchor's tuple is flipped.
        nearest_distance: A negative nearer than this is drawn as if it were so far.
        farthest_distance: A negative farther than this is drawn as if it were so near.

    Source: Roth et al., Revisiting training strategies, ICML 2020, arXiv 2002.08473.
    """

    positive_margin_distance: float = within(0.0, low=0.0, high=LARGEST_DISTANCE)
    negative_margin_distance: float = within(1.0, low=0.0, high=LARGEST_DISTANCE)
    flip_share: float = within(0.3, low=0.0, high=1.0)
    nearest_distance: float = within(0.5, low=1e-3, high=1.99)
    farthest_distance: float = within(1.4, low=1e-3, high=1.99)


RhoSettings = RhoContrastive | RhoMargin | RhoTriplet
