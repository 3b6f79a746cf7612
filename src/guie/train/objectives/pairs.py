"""Objectives that compare the images of a batch with each other, and with a memory of earlier batches."""

from __future__ import annotations

import torch
from torch import Tensor

from guie.settings.objectives.library import Library
from guie.settings.objectives.pairs import MarginLoss, PairSettings
from guie.train.objectives.base import Batch, Look, Objective
from guie.train.objectives.compared import Chosen, Compared, compare, share_active
from guie.train.objectives.draws import generator_of
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
        means: Over counted steps of the epoch: the share of chosen pairs, triplets or images that cost something, the
            share of rows with a positive, and mean cosines.
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
        self.memory = (
            MemoryBank(settings.memory, dim, type(settings).__name__, n_items) if settings.memory is not None else None
        )
        self.means = StepMeans(CURVES)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`."""
        compared = compare(batch, self.memory)
        return {"loss": self.settings.weight * self.loss(compared, self._chosen(batch, compared))}

    @torch.no_grad()
    def after_step(self, batch: Batch, look: Look) -> None:
        """See `Objective`: the curves, then the memory."""
        if batch.is_counted:
            compared = compare(batch, self.memory)
            self.means.add(
                {
                    "active_share": share_active(self.loss.parts(compared, self._chosen(batch, compared))),
                    "with_positive_share": compared.is_positive.any(dim=1).double().mean(),
                    **pair_cosines(batch.embeddings, batch.labels),
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
        memory = {} if self.memory is None else self.memory.curves()
        return {**self.means.values(), **memory, **self.loss.curves()}

    def _chosen(self, batch: Batch, compared: Compared) -> Chosen:
        """What the loss is computed of; nothing where it chooses itself."""
        if not self.loss.takes_chosen:
            return ()
        s = self.settings
        most, generator = s.max_triplets_per_anchor, generator_of(batch, type(s).__name__)
        if s.miner is None:
            return compared.triplets(most, generator) if self.loss.takes_triplets else compared.pairs()
        chosen = mine(s.miner, compared, most, generator)
        return compared.triplets_of(chosen, most, generator) if self.loss.takes_triplets else chosen
