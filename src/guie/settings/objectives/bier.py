"""Boosting Independent Embeddings Robustly: slices of the embedding that correct each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from guie.settings.fields import within
from guie.settings.objectives.kind import Kind


@dataclass(frozen=True)
class Bier(Kind):
    """The embedding is cut into learners, trained as in boosting.

    A learner weights each pair by the slope of the loss at the cosine that the learners before it give together, so
    that the pairs that those learners get wrong weigh most.

    Learner m of M gets the share m / (1 + ... + M) of the embedding's dimensions, which is also its weight in the
    ensemble. Adversaries keep the learners apart. Ours differs from the paper in two ways. At test time the embedding
    is the neck's output as it is, without the learners' weights. The adversaries' outputs are normalised, which
    replaces the paper's penalty on their weights.

    Attributes:
        n_learners: Slices of the embedding.
        slope: Steepness of the loss, beta1.
        threshold_cosine: Cosine at which the loss of a pair bends, beta2.
        negative_factor: How many times as steep the loss of a pair of two classes is, C.
        has_bounded_weights: A pair's weight is divided by its loss' largest slope, so that it is between 0 and 1 (ours;
            without it a pair of two classes weighs up to slope * negative_factor).
        decorrelation_weight: Weight of the similarity between learners that the adversaries find; 0 is without
            adversaries. We could not find the paper's value.
        regressor_dim: Hidden width of an adversary.
        regressor_lr_factor: Factor of the stage's learning rate for the adversaries.

    Source: Opitz et al., BIER, ICCV 2017, and Deep metric learning with BIER, TPAMI 2018, arXiv 1801.04815.
    """

    needs_positives = True

    n_learners: int = within(3, low=2, high=100)
    slope: float = within(2.0, low=1e-3, high=1e4)
    threshold_cosine: float = within(0.5, low=-1.0, high=1.0)
    negative_factor: float = within(25.0, low=1e-3, high=1e4)
    has_bounded_weights: bool = False
    decorrelation_weight: float = within(100.0, low=0.0, high=1e6)
    regressor_dim: int = within(512, low=1, high=10**5)
    regressor_lr_factor: float = within(1.0, low=0.0, high=1e6)

    @property
    def has_weights(self) -> bool:  # type: ignore[override]
        """See `Kind`: the adversaries."""
        return self.decorrelation_weight > 0

    def state_shape(self) -> tuple[Any, ...]:
        """See `Kind`."""
        return ("Bier", self.n_learners, self.regressor_dim) if self.decorrelation_weight else ("Bier",)
