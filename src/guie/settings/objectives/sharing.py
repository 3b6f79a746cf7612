"""Sharing Matters: a second encoder learns from triplets of three classes what classes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from guie.settings.fields import within
from guie.settings.objectives.kind import BETA_LR_FACTOR, LARGEST_DISTANCE, Kind


@dataclass(frozen=True)
class SharingMatters(Kind):
    """The margin loss twice: of the embedding with classes, and of a second encoder with triplets of three classes.

    From such triplets the second encoder can learn only traits that many classes share. An adversary learns to predict
    the embedding from the second encoder's output; both encoders learn to prevent that. The second encoder is dropped
    when the stage ends, so the embedding at test time is the first encoder's alone.

    Ours: of the two other classes' images the positive is drawn uniformly and the negative by its distance.

    Attributes:
        shared_dim: Numbers of the second encoder's embedding.
        shared_weight: Weight of the second encoder's loss.
        margin_distance: Half the width of the band around beta, alpha.
        beta_distance: Where beta starts, the distance that separates pairs of one class from others.
        beta_lr_factor: Factor of the stage's learning rate for beta; 0 keeps it. Published are 5e-4 for a model of
            1e-5.
        decorrelation_weight: Weight of the similarity between the encoders that the adversary finds (ours).
        regressor_dim: Hidden width of the adversary.
        regressor_lr_factor: Factor of the stage's learning rate for the adversary.

    Source: Milbich et al., Sharing matters for generalization in deep metric learning, TPAMI 2020, arXiv 2004.05582.
    """

    has_weights = True
    needs_positives = True

    shared_dim: int = within(128, low=2, high=10**5)
    shared_weight: float = within(1.0, low=0.0, high=1e4)
    margin_distance: float = within(0.2, low=0.0, high=LARGEST_DISTANCE)
    beta_distance: float = within(1.2, low=0.0, high=LARGEST_DISTANCE)
    beta_lr_factor: float = within(BETA_LR_FACTOR, low=0.0, high=1e6)
    decorrelation_weight: float = within(100.0, low=0.0, high=1e6)
    regressor_dim: int = within(512, low=1, high=10**5)
    regressor_lr_factor: float = within(1.0, low=0.0, high=1e6)

    @property
    def min_batch_classes(self) -> int:
        """See `Kind`: its triplets are of three classes."""
        return 3

    def state_shape(self) -> tuple[Any, ...]:
        """See `Kind`."""
        return ("SharingMatters", self.shared_dim, self.regressor_dim)
