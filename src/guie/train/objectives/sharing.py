"""Sharing Matters: the second encoder learns from triplets of three classes."""

from __future__ import annotations

import torch
from torch import Tensor

from guie.settings.objectives.sharing import SharingMatters
from guie.train.objectives.base import Batch
from guie.train.objectives.draws import Triplets
from guie.train.objectives.margin_triplets import three_class_triplets
from guie.train.objectives.two_encoders import TwoEncoders


class SharedEncoder(TwoEncoders):
    """See `SharingMatters`."""

    task = "shared"
    settings: SharingMatters

    def __init__(self, settings: SharingMatters, dim: int, feature_dim: int, n_classes: int) -> None:
        """An objective for at least three classes.

        Args:
            settings: See `SharingMatters`.
            dim: Numbers of an embedding.
            feature_dim: Numbers of a feature.
            n_classes: Classes of the training set.

        Raises:
            ValueError: there are fewer than three classes.
        """
        if n_classes < 3:
            raise ValueError(f"SharingMatters: its triplets are of three classes, and there are {n_classes}")
        super().__init__(settings, dim, feature_dim, settings.shared_dim)

    def second_triplets(self, unit: Tensor, batch: Batch, generator: torch.Generator) -> Triplets:
        """See `TwoEncoders`."""
        return three_class_triplets(unit, batch.labels, generator)

    def second_weight(self) -> float:
        """See `TwoEncoders`."""
        return self.settings.shared_weight
