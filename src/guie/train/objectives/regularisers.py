"""KoLeo and the threshold-consistent margin: terms beside another objective."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from guie.settings.objectives.regularisers import KoLeo, ThresholdConsistentMargin
from guie.train.objectives.base import Batch, Look, Objective
from guie.train.objectives.draws import mates
from guie.train.objectives.memory import MemoryBank
from guie.train.objectives.step_means import StepMeans, pair_cosines

SQUARED_EPSILON = 1e-8  # added to squared distances: a pair of duplicates counts as 1e-4 apart


def nearest_distances(unit: Tensor) -> Tensor:
    """The distance of each row to its nearest other row, which is chosen without gradient.

    Args:
        unit: float [n, dim], n >= 2, rows of length one.

    Returns:
        [n], at least 1e-4. So the push on near duplicates is finite, and exact duplicates are not pushed.
    """
    with torch.no_grad():
        nearest = (unit @ unit.T).fill_diagonal_(-2.0).argmax(dim=1)  # -1 would tie with an opposite row
    return ((unit - unit[nearest]).square().sum(dim=1) + SQUARED_EPSILON).sqrt()


class KoLeoTerm(Objective):
    """See `KoLeo`."""

    def __init__(self, settings: KoLeo) -> None:
        """A term without trainable weights."""
        super().__init__()
        self.settings = settings
        self.means = StepMeans(("nearest_distance",))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`; 0 for a batch of one row."""
        if len(batch.labels) < 2:
            return {"spread": batch.embeddings.sum() * 0}
        distances = nearest_distances(F.normalize(batch.embeddings))
        return {"spread": -self.settings.weight * distances.log().mean()}

    @torch.no_grad()
    def after_step(self, batch: Batch, look: Look) -> None:
        """Counts the mean distance to the nearest neighbour."""
        if batch.is_counted and len(batch.labels) >= 2:
            self.means.add({"nearest_distance": nearest_distances(F.normalize(batch.embeddings)).mean()})

    @torch.no_grad()
    def begin_epoch(self, epoch: int, look: Look) -> None:
        """See `Objective`."""
        self.means.reset()

    def curves(self, epoch: int) -> dict[str, float]:
        """The mean distance to the nearest neighbour in a batch."""
        return self.means.values()


def mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of the values under a mask; 0, with a graph, where it is empty."""
    return values.where(mask, 0.0).sum() / mask.sum().clamp_min(1)


class ConsistentMarginTerm(Objective):
    """See `ThresholdConsistentMargin`.

    A pair within the batch counts in both directions, a pair with the memory once, and no row is compared with itself.
    """

    def __init__(self, settings: ThresholdConsistentMargin, dim: int, n_items: int) -> None:
        """A term without trainable weights.

        Args:
            settings: Margins, weights and memory.
            dim: Numbers of an embedding.
            n_items: Training images.
        """
        super().__init__()
        self.settings = settings
        self.memory = MemoryBank(settings.memory, dim, type(settings).__name__, n_items) if settings.memory else None
        self.means = StepMeans(("active_share", "positive_cosine", "negative_cosine"))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`."""
        s = self.settings
        cosines, is_low, is_high, _ = self._pairs(batch)
        pull = mean_where(s.positive_margin_cosine - cosines, is_low)
        push = mean_where(cosines - s.negative_margin_cosine, is_high)
        return {"pull": s.positive_weight * pull, "push": s.negative_weight * push}

    def _pairs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Cosines of the batch with itself and the memory, [n, n + k], and which of these pairs are of one class and
        too far, of two classes and too near, and pairs at all."""
        unit = F.normalize(batch.embeddings)
        others, labels = unit, batch.labels
        if self.memory is not None:
            known, known_labels = self.memory.known(batch.step)
            others = torch.cat([unit, F.normalize(known.to(unit.dtype))])
            labels = torch.cat([labels, known_labels])
        cosines = unit @ others.T
        is_same = batch.labels[:, None] == labels
        is_pair = torch.ones_like(is_same).fill_diagonal_(False)
        is_low = mates(batch.labels, labels) & (cosines <= self.settings.positive_margin_cosine)
        is_high = ~is_same & (cosines >= self.settings.negative_margin_cosine)
        return cosines, is_low, is_high, is_pair

    @torch.no_grad()
    def after_step(self, batch: Batch, look: Look) -> None:
        """Counts how many pairs cost something, then takes the batch into the memory."""
        if batch.is_counted:
            _, is_low, is_high, is_pair = self._pairs(batch)
            active_share = (is_low | is_high).sum() / is_pair.sum()
            self.means.add({"active_share": active_share, **pair_cosines(batch.embeddings, batch.labels)})
        if self.memory is not None:
            self.memory.add(batch)

    @torch.no_grad()
    def begin_epoch(self, epoch: int, look: Look) -> None:
        """See `Objective`."""
        self.means.reset()

    def curves(self, epoch: int) -> dict[str, float]:
        """The share of pairs that cost something, cosines within the batch, and how full the memory is."""
        return self.means.values() | (self.memory.curves() if self.memory is not None else {})
