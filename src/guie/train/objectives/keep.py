"""Cosines of a batch's embeddings that stay those of the features before training, or those by a teacher."""

from __future__ import annotations

from functools import partial

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
        reference: float16 [n_items, dim], of the training images: unit features at the stage's start, or unit
            embeddings or features by the teacher; without rows where the features of the batch are meant.
    """

    reference: Tensor

    def __init__(self, settings: KeepCosines, dim: int, n_items: int, is_of_batch: bool) -> None:
        """A term that has no weights to train.

        Args:
            settings: Its weight and its teacher.
            dim: Numbers of a feature, or of the teacher's embedding.
            n_items: Training images.
            is_of_batch: The features of the batch are meant: those of a frozen backbone, without a teacher.
        """
        super().__init__()
        self.settings, self.dim = settings, dim
        n_kept = 0 if is_of_batch else n_items
        self.register_buffer("reference", torch.zeros(n_kept, dim, dtype=torch.float16))
        self.means = StepMeans(("cosine_change",))

    def _changes(self, batch: Batch) -> Tensor:
        """What each pair's cosine of embeddings exceeds that of its features by, float [n, n]."""
        unit = F.normalize(batch.embeddings)
        if len(self.reference):
            known = self.reference[batch.items].to(unit.dtype)
        else:
            known = batch.features.detach()[:, : self.dim].to(unit.dtype)  # without the image's size
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
        """Keeps the features of all training images before the first step, or the teacher's embeddings."""
        self.means.reset()
        if epoch == 0 and len(self.reference):
            see = partial(look.taught, self.settings.of) if self.settings.of else look.features
            features = torch.from_numpy(of_all(see, len(self.reference)))
            self.reference.copy_(F.normalize(features))

    def curves(self, epoch: int) -> dict[str, float]:
        """The mean size of the change of a pair's cosine."""
        return self.means.values()
