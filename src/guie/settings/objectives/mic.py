"""Mining interclass characteristics: a second encoder learns what classes share, so that the embedding need not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from guie.settings.fields import within
from guie.settings.objectives.kind import BETA_LR_FACTOR, LARGEST_DISTANCE, Kind


@dataclass(frozen=True)
class Mic(Kind):
    """The margin loss twice: of the embedding with classes, and of a second encoder with clusters of shared traits.

    The clusters are made by k-means of the backbone's features, standardised within each class. An adversary learns to
    predict the embedding from the second encoder's output; both encoders learn to prevent that. The second encoder is
    dropped when the stage ends.

    Ours: both encoders see the same batch, which is drawn by classes. An image is an anchor of the second encoder's
    triplets only if the batch holds another image of its cluster; the curve `trait_row_share` is the share of such
    rows.

    Attributes:
        n_clusters: Clusters of traits; 0 is one for every 50 images, 100 at most (ours; the papers' runs took 30 to
            500).
        every_epochs: Epochs between two clusterings (ours).
        trait_dim: Numbers of the second encoder's embedding.
        trait_weight: Weight of the second encoder's loss.
        margin_distance: Half the width of the band around beta, alpha.
        beta_distance: Where beta starts, the distance that separates pairs of one class from others.
        beta_lr_factor: Factor of the stage's learning rate for beta; 0 keeps it. Published are 5e-4 for a model of
            1e-5.
        decorrelation_weight: Weight of the similarity between the encoders that the adversary finds, gamma.
        regressor_dim: Hidden width of the adversary.
        regressor_lr_factor: Factor of the stage's learning rate for the adversary.

    Source: Roth et al., MIC: Mining interclass characteristics for improved metric learning, ICCV 2019, arXiv
    1909.11574.
    """

    has_weights = True
    needs_positives = True
    needs_all_labels = True

    n_clusters: int = within(0, low=0, high=10**5)
    every_epochs: int = within(3, low=1, high=10**6)
    trait_dim: int = within(128, low=2, high=10**5)
    trait_weight: float = within(1.0, low=0.0, high=1e4)
    margin_distance: float = within(0.2, low=0.0, high=LARGEST_DISTANCE)
    beta_distance: float = within(1.2, low=0.0, high=LARGEST_DISTANCE)
    beta_lr_factor: float = within(BETA_LR_FACTOR, low=0.0, high=1e6)
    decorrelation_weight: float = within(100.0, low=0.0, high=1e6)
    regressor_dim: int = within(512, low=1, high=10**5)
    regressor_lr_factor: float = within(1.0, low=0.0, high=1e6)

    def check(self, at: str) -> None:
        """Raises ValueError for a single cluster: its triplets need a negative from another one."""
        if self.n_clusters == 1:
            raise ValueError(f"{at}.n_clusters is 1, must be 2 or more, or 0 for a number that follows the images")

    def state_shape(self) -> tuple[Any, ...]:
        """See `Kind`."""
        return ("Mic", self.trait_dim, self.regressor_dim)
