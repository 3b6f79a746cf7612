"""DiVA: four tasks, each with a slice of the embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from guie.settings.fields import within
from guie.settings.objectives.kind import BETA_LR_FACTOR, LARGEST_DISTANCE, Kind


@dataclass(frozen=True)
class Diva(Kind):
    """Slices of equal width for four tasks: discriminative, shared, intra and sample.

    Discriminative, shared and intra are the margin loss over triplets with two classes, three classes and one class.
    Sample is a contrastive loss (DaNCE): each image is compared with its own key and with a queue of other images'
    keys, which are weighted by their distance. For each slice but the first, an adversary learns to predict the first
    slice from it; both slices learn to prevent that. A task of weight 0 has no slice.

    Ours differs from the paper in three ways. An image's key is the moving average of its own earlier embeddings, each
    of another augmentation. The paper takes a momentum encoder's embedding of a second augmentation, which costs a
    second forward pass. Keys start as the embeddings of the plain images. Intra triplets are of three different images,
    so a batch must hold three images of a class; the curve `intra_row_share` is the share of rows that have such a
    triplet. At test time the embedding is the neck's output as it is: slices are not normalised on their own.

    Attributes:
        shared_weight: Weight of the task shared.
        intra_weight: Weight of the task intra.
        sample_weight: Weight of the task sample.
        margin_distance: Half the width of the band around beta, alpha.
        beta_distance: Where each beta starts, the distance that separates pairs of one class from others.
        beta_lr_factor: Factor of the stage's learning rate for the betas; 0 keeps them fixed. The published learning
            rates are 5e-4 for the betas and 1e-5 for the model.
        decorrelation_weight: Weight of the similarity between two slices that an adversary finds, rho.
        temperature: Divides the cosines of the task sample. Published runs took .01 with a momentum encoder's keys,
            which are nearer to their images than ours.
        queue_size: Number of images, from the last batches, whose keys an image is compared with.
        key_momentum: Share of a key that stays when its image is seen again.
        regressor_dim: Hidden width of an adversary.
        regressor_lr_factor: Factor of the stage's learning rate for the adversaries.

    Source: Milbich et al., DiVA: Diverse visual feature aggregation for deep metric learning, ECCV 2020, arXiv
    2004.13458.
    """

    has_weights = True
    needs_positives = True
    needs_all_labels = True

    shared_weight: float = within(0.3, low=0.0, high=1e4)
    intra_weight: float = within(0.3, low=0.0, high=1e4)
    sample_weight: float = within(0.3, low=0.0, high=1e4)
    margin_distance: float = within(0.2, low=0.0, high=LARGEST_DISTANCE)
    beta_distance: float = within(1.2, low=0.0, high=LARGEST_DISTANCE)
    beta_lr_factor: float = within(BETA_LR_FACTOR, low=0.0, high=1e6)
    decorrelation_weight: float = within(150.0, low=0.0, high=1e6)
    temperature: float = within(0.1, low=1e-4, high=1e2)
    queue_size: int = within(1024, low=1, high=10**7)
    key_momentum: float = within(0.5, low=0.0, high=0.999999)
    regressor_dim: int = within(512, low=1, high=10**5)
    regressor_lr_factor: float = within(1.0, low=0.0, high=1e6)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that have a slice, in the order of the slices."""
        weights = {"shared": self.shared_weight, "intra": self.intra_weight, "sample": self.sample_weight}
        return ("discriminative", *(task for task, weight in weights.items() if weight))

    @property
    def min_batch_classes(self) -> int:
        """See `Kind`: the triplets of the task shared are of three classes."""
        return 3 if self.shared_weight else 2

    def check(self, at: str) -> None:
        """Raises ValueError where the first task is the only one."""
        if len(self.tasks) == 1:
            raise ValueError(f"{at}: shared_weight, intra_weight and sample_weight are all 0; give one task a weight")

    def state_shape(self) -> tuple[Any, ...]:
        """See `Kind`."""
        return ("Diva", self.tasks, self.regressor_dim)
