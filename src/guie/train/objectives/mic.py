"""MIC: a second encoder is trained on clusters of traits that several classes share."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from guie.settings.objectives.mic import Mic
from guie.train.objectives.base import Batch, Look
from guie.train.objectives.clusters import cluster_curves, k_means, of_all, standardise_in_class
from guie.train.objectives.draws import Triplets
from guie.train.objectives.margin_triplets import class_triplets
from guie.train.objectives.two_encoders import TwoEncoders

IMAGES_PER_CLUSTER = 50
LARGEST_N_CLUSTERS = 100  # where the number follows the images


class TraitEncoder(TwoEncoders):
    """See `Mic`.

    Attributes:
        traits: int64 [n_items], the cluster of each training image; -1 for images alone of their class.
    """

    task = "trait"
    settings: Mic
    traits: Tensor

    def __init__(self, settings: Mic, dim: int, feature_dim: int, labels: Tensor) -> None:
        """Before the first clustering all images are in no cluster.

        Args:
            settings: See `Mic`.
            dim: Numbers of an embedding.
            feature_dim: Numbers of a feature.
            labels: int64 [n_items], the class of each training image.

        Raises:
            ValueError: there are not two images for each cluster, those alone of their class left out.
        """
        super().__init__(settings, dim, feature_dim, settings.trait_dim)
        self.labels = labels.cpu().numpy()
        self.is_clustered = np.bincount(self.labels)[self.labels] > 1
        n = int(self.is_clustered.sum())
        self.n_clusters = settings.n_clusters or max(2, min(LARGEST_N_CLUSTERS, n // IMAGES_PER_CLUSTER))
        if n < 2 * self.n_clusters:
            raise ValueError(
                f"Mic: {self.n_clusters} clusters need at least {2 * self.n_clusters} images of classes with several, "
                f"and there are {n}; make objective.n_clusters smaller"
            )
        self.register_buffer("traits", torch.full((len(labels),), -1))

    def second_triplets(self, unit: Tensor, batch: Batch, generator: torch.Generator) -> Triplets:
        """See `TwoEncoders`."""
        return class_triplets(unit, self.traits[batch.items], generator)

    def second_weight(self) -> float:
        """See `TwoEncoders`."""
        return self.settings.trait_weight

    @torch.no_grad()
    def begin_epoch(self, epoch: int, look: Look) -> None:
        """Clusters the training images where a clustering is due."""
        super().begin_epoch(epoch, look)
        if epoch % self.settings.every_epochs == 0:
            features = of_all(look.features, len(self.labels))
            standardise_in_class(features, self.labels)
            found = np.full(len(self.labels), -1)
            found[self.is_clustered] = k_means(features[self.is_clustered], self.n_clusters, n_restarts=1)
            self.traits.copy_(torch.from_numpy(found))

    def curves(self, epoch: int) -> dict[str, float]:
        """See `Objective`."""
        return super().curves(epoch) | cluster_curves(self.traits.cpu().numpy())
