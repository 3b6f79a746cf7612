"""What the images of a batch are compared with, and the pairs and triplets that they form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from guie.train.objectives.base import Batch
from guie.train.objectives.distances import unit_distances
from guie.train.objectives.draws import mates
from guie.train.objectives.memory import MemoryBank
from guie.train.objectives.triplet_lists import list_triplets

Chosen = tuple[Tensor, ...]
"""Numbers of rows and of others, int64, as in pytorch-metric-learning: triplets (anchors, positives, negatives), or
pairs (anchors, positives, anchors, negatives), where the first two are of one length, and the last two."""


@dataclass(frozen=True)
class Compared:
    """The rows of a batch and the others that each is compared with: the batch itself, then a memory.

    Attributes:
        rows: float [n, dim], of any length.
        labels: int64 [n].
        others: float [m, dim]; the first n are the rows. Those of the memory have no gradient.
        other_labels: int64 [m].
        is_positive: bool [n, m], of one class, and not the row itself.
        is_negative: bool [n, m], of two classes.
    """

    rows: Tensor
    labels: Tensor
    others: Tensor
    other_labels: Tensor
    is_positive: Tensor
    is_negative: Tensor

    def cosines(self) -> Tensor:
        """float [n, m]."""
        return F.normalize(self.rows) @ F.normalize(self.others).T

    def distances(self) -> Tensor:
        """float [n, m], see `unit_distances`."""
        return unit_distances(F.normalize(self.rows), F.normalize(self.others))

    def pairs(self) -> Chosen:
        """All pairs."""
        return (*self.is_positive.nonzero(as_tuple=True), *self.is_negative.nonzero(as_tuple=True))

    def triplets(self, most: int, generator: torch.Generator) -> Chosen:
        """All triplets, at most so many of an anchor; see `list_triplets`."""
        return list_triplets(self.is_positive, self.is_negative, most, generator)

    def triplets_of(self, chosen: Chosen, most: int, generator: torch.Generator) -> Chosen:
        """All triplets of chosen pairs, or the chosen triplets; see `list_triplets`."""
        if len(chosen) == 3:
            return chosen
        return list_triplets(*self.chosen_masks(chosen), most, generator)

    def chosen_masks(self, chosen: Chosen) -> tuple[Tensor, Tensor]:
        """The positive and the negative pairs of `chosen`, bool [n, m] both; each pair counts once."""
        positive, negative = torch.zeros_like(self.is_positive), torch.zeros_like(self.is_negative)
        positive[chosen[0], chosen[1]] = True
        negative[chosen[-2] if len(chosen) == 4 else chosen[0], chosen[-1]] = True
        return positive, negative


def compare(batch: Batch, memory: MemoryBank | None = None) -> Compared:
    """The batch beside itself and what the memory knows at its step."""
    others, other_labels = batch.embeddings, batch.labels
    known, known_labels = memory.known(batch.step) if memory is not None else (others[:0], other_labels[:0])
    if len(known):
        others, other_labels = torch.cat([others, known.to(others)]), torch.cat([other_labels, known_labels])
    is_same = batch.labels[:, None] == other_labels
    is_positive = mates(batch.labels, other_labels)
    return Compared(batch.embeddings, batch.labels, others, other_labels, is_positive, ~is_same)


def share_active(parts: Sequence[Tensor]) -> float | Tensor:
    """Share of the numbers that are not 0: 0 where none were chosen, NaN where no list of them is known."""
    if not parts:
        return math.nan
    costs = torch.cat([part.flatten() for part in parts])
    return (costs != 0).sum() / max(len(costs), 1)
