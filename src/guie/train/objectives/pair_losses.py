"""Losses of pairs that are written here: sums that pytorch-metric-learning does not have, and those of which it makes
a matrix of positive pairs by negative pairs, 13 GB for a batch of 1,024 with four images of a class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guie.settings.objectives.pairs import Contrastive, LiftedStructure, NtXent
from guie.train.objectives.compared import Chosen, Compared


class PairLoss(nn.Module):
    """A loss of chosen pairs or triplets.

    Attributes:
        takes_triplets: It is of triplets: without a miner it takes all, and pairs that a miner chooses become triplets.
        takes_chosen: It is computed of what is chosen; otherwise of the whole batch, and it chooses itself.
    """

    takes_triplets = False
    takes_chosen = True

    def forward(self, compared: Compared, chosen: Chosen) -> Tensor:
        """A scalar on the graph of the rows, 0 where nothing is chosen."""
        raise NotImplementedError

    def parts(self, compared: Compared, chosen: Chosen) -> list[Tensor]:
        """What each pair, triplet or image costs, before they are averaged: float tensors of one dimension, empty ones
        where nothing is chosen."""
        raise NotImplementedError

    def curves(self) -> dict[str, float]:
        """Numbers to plot, such as learned thresholds."""
        return {}


class ContrastiveSum(PairLoss):
    """See `Contrastive`."""

    def __init__(self, settings: Contrastive) -> None:
        """A loss without trainable weights."""
        super().__init__()
        self.margin = settings.margin_cosine

    def forward(self, compared: Compared, chosen: Chosen) -> Tensor:
        """See `PairLoss`."""
        return torch.cat(self.parts(compared, chosen)).sum() / len(compared.rows)

    def parts(self, compared: Compared, chosen: Chosen) -> list[Tensor]:
        """See `PairLoss`."""
        cosines = compared.cosines()
        positive, negative = compared.chosen_masks(chosen)
        return [1 - cosines[positive], F.relu(cosines[negative] - self.margin)]


class NtXentByRows(PairLoss):
    """See `NtXent`; the logarithm of the negatives' sum is computed once an image, not once a pair."""

    def __init__(self, settings: NtXent) -> None:
        """A loss without trainable weights."""
        super().__init__()
        self.temperature = settings.temperature

    def forward(self, compared: Compared, chosen: Chosen) -> Tensor:
        """See `PairLoss`."""
        (losses,) = self.parts(compared, chosen)
        return losses.sum() / max(len(losses), 1)

    def parts(self, compared: Compared, chosen: Chosen) -> list[Tensor]:
        """See `PairLoss`."""
        logits = compared.cosines() / self.temperature
        positive, negative = compared.chosen_masks(chosen)
        anchors, places = positive.nonzero(as_tuple=True)
        own = logits[anchors, places]
        return [torch.logaddexp(own, _log_sum(logits, negative)[anchors]) - own]


class Lifted(PairLoss):
    """The original form of `LiftedStructure`."""

    def __init__(self, settings: LiftedStructure) -> None:
        """A loss without trainable weights."""
        super().__init__()
        self.margin = settings.margin_distance

    def forward(self, compared: Compared, chosen: Chosen) -> Tensor:
        """See `PairLoss`."""
        (losses,) = self.parts(compared, chosen)
        return losses.sum() / max(len(losses), 1)

    def parts(self, compared: Compared, chosen: Chosen) -> list[Tensor]:
        """See `PairLoss`."""
        distances = compared.distances()
        positive, negative = compared.chosen_masks(chosen)
        of_negatives = _log_sum(self.margin - distances, negative)
        i, j = positive.nonzero(as_tuple=True)
        costs = torch.logaddexp(of_negatives[i], of_negatives[j]) + distances[i, j]
        return [F.relu(costs).square() / 2]


def _log_sum(exponents: Tensor, mask: Tensor) -> Tensor:
    """log of the sum of exp over the mask of each row, float [n]; very small, but finite, where the mask is empty."""
    least = torch.finfo(exponents.dtype).min / 4
    return exponents.masked_fill(~mask, least).logsumexp(dim=1)
