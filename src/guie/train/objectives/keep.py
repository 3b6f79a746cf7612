"""Cosines of a batch's embeddings that stay those of the features before training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from guie.settings.objectives.keep import KeepCosines
from guie.train.objectives.base import Batch, Look, Objective
from guie.train.objectives.clusters import of_all
from guie.train.objectives.step_means import StepMeans


class KeepCosinesTerm(Objective):
    """See `KeepCosines`.

    Attributes:
        reference: float16 [n_items, feature_dim], unit features of the training images at the stage's start; without
            rows where the backbone is frozen.
    """

    reference: Tensor

    def __init__(self, settings: KeepCosines, feature_dim: int, n_items: int, is_backbone_frozen: bool) -> None:
        """A term without weights of its own.

        Args:
            settings: Its weight.
            feature_dim: Numbers of a feature.
            n_items: Training images.
            is_backbone_frozen: Whether the features of a batch are those of the stage's start.
        """
        super().__init__()
        self.settings, self.feature_dim = settings, feature_dim
        n_kept = 0 if is_backbone_frozen else n_items
        self.register_buffer("reference", torch.zeros(n_kept, feature_dim, dtype=torch.float16))
        self.means = StepMeans(("cosine_change",))

    def _changes(self, batch: Batch) -> Tensor:
        """What each pair's cosine of embeddings exceeds that of its features by, float [n, n]."""
        unit = F.normalize(batch.embeddings)
        if len(self.reference):
            known = self.reference[batch.items].to(unit.dtype)
        else:
            known = batch.features.detach()[:, : self.feature_dim].to(unit.dtype)  # without the image's size
        known = F.normalize(known)
        return unit @ unit.T - known @ known.T

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`; a row with itself differs by nothing and is no pair. 0 for a batch of one row."""
        n = len(batch.labels)
        return {"keep": self.settings.weight * self._changes(batch).square().sum() / max(1, n * (n - 1))}

    @torch.no_grad()
    def after_step(self, batch: Batch, look: Look) -> None:
        """Counts the mean size of a pair's change."""
        n = len(batch.labels)
        if batch.is_counted and n > 1:
            self.means.add({"cosine_change": self._changes(batch).abs().sum() / (n * (n - 1))})

    @torch.no_grad()
    def begin_epoch(self, epoch: int, look: Look) -> None:
        """Keeps the features of all training images before the first step."""
        self.means.reset()
        if epoch == 0 and len(self.reference):
            features = torch.from_numpy(of_all(look.features, len(self.reference)))
            self.reference.copy_(F.normalize(features))

    def curves(self, epoch: int) -> dict[str, float]:
        """The mean size of the change of a pair's cosine."""
        return self.means.values()
