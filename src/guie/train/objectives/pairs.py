"""Objectives that compare the images of a batch with each other, and with a memory of earlier batches."""

from __future__ import annotations

import torch
from torch import Tensor

from guie.settings.objectives.library import Library
from guie.settings.objectives.pairs import MarginLoss, PairSettings
from guie.train.objectives.base import Batch, Look, Objective
from guie.train.objectives.compared import Chosen, Compared, compare, share_active
from guie.train.objectives.library import library_loss, pair_loss
from guie.train.objectives.memory import MemoryBank
from guie.train.objectives.miners import mine
from guie.train.objectives.pair_losses import PairLoss
from guie.train.objectives.step_means import StepMeans, pair_cosines

CURVES = ("active_share", "with_positive_share", "positive_cosine", "negative_cosine")


class PairObjective(Objective):
    """Any of the losses of pairs and triplets.

    Attributes:
        loss: It alone has weights, if any.
        memory: Of earlier batches, or None.
        means: Over the steps of the epoch: the share of chosen pairs, triplets or images that cost something, the share
            of rows with a positive, mean cosines, and how full the memory is.
    """

    def __init__(self, settings: PairSettings | Library, n_classes: int, dim: int, n_items: int) -> None:
        """An objective with an empty memory.

        Args:
            settings: Which loss, miner and memory.
            n_classes: Classes of the training set.
            dim: Numbers of an embedding.
            n_items: Training images.

        Raises:
            ValueError: there is but one class.
        """
        super().__init__()
        kind = type(settings).__name__
        if n_classes < 2:
            raise ValueError(f"{kind} compares images of different classes, and the stage has {n_classes} class")
        self.settings = settings
        self.loss: PairLoss = (
            library_loss(settings, n_classes, dim) if isinstance(settings, Library) else pair_loss(settings, n_classes)
        )
        self.memory = MemoryBank(settings.memory, dim, n_items) if settings.memory is not None else None
        self.means = StepMeans((*CURVES, *(() if self.memory is None else ("memory_fill",))))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`."""
        compared = compare(batch, self.memory)
        return {"loss": self.settings.weight * self.loss(compared, self._chosen(compared))}

    @torch.no_grad()
    def after_step(self, batch: Batch, look: Look) -> None:
        """See `Objective`: the curves, then the memory."""
        compared = compare(batch, self.memory)
        parts = self.loss.parts(compared, self._chosen(compared))
        self.means.add(
            {
                "active_share": share_active(parts),
                "with_positive_share": compared.is_positive.any(dim=1).double().mean(),
                **pair_cosines(batch.embeddings, batch.labels),
                **({} if self.memory is None else {"memory_fill": self._fill()}),
            }
        )
        if self.memory is not None:
            self.memory.add(batch)

    @torch.no_grad()
    def begin_epoch(self, epoch: int, look: Look) -> None:
        """See `Objective`."""
        self.means.reset()

    def rates(self) -> dict[str, float]:
        """See `Objective`."""
        if isinstance(self.settings, MarginLoss):
            return {"loss.": self.settings.beta_lr_factor}
        return {"loss.": self.settings.weights_lr_factor} if isinstance(self.settings, Library) else {}

    def undecayed(self) -> tuple[str, ...]:
        """See `Objective`."""
        return ("loss.",)

    def curves(self, epoch: int) -> dict[str, float]:
        """See `Objective`."""
        return {**self.means.values(), **self.loss.curves()}

    def _chosen(self, compared: Compared) -> Chosen:
        if self.settings.miner is not None:
            return mine(self.settings.miner, compared)
        return compared.triplets() if self.loss.takes_triplets else compared.pairs()

    def _fill(self) -> float:
        """Share of the memory that is compared with a batch, once its first step has come."""
        assert self.memory is not None and self.settings.memory is not None
        known, _ = self.memory.known(self.settings.memory.start_step)
        return len(known) / self.settings.memory.size
