"""Hierarchical Divide and Conquer: clusters that are split in two, each with a learned mask over the embedding."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guie.settings.objectives.divide import HierarchicalDivide
from guie.train.objectives.base import Batch, Look
from guie.train.objectives.clusters import k_means, of_all, usable
from guie.train.objectives.divide import ClusteredBatches

TRIES = 30  # of 2-means, until both halves are of several classes


def two_means(points: np.ndarray, labels: np.ndarray, min_classes: int = 2) -> np.ndarray:
    """The half of each point, 0 or 1, int64 [n].

    Both halves hold `min_classes` classes or more with two images each. Where 30 starts find no such halves, all points
    are in half 0.

    Args:
        points: float [n, dim].
        labels: int64 [n].
        min_classes: Classes that each half needs.
    """
    for _ in range(TRIES if len(points) > 1 else 0):
        halves = k_means(points, 2, n_restarts=1)
        used = usable(halves, labels, min_classes)
        if (used == 0).any() and (used == 1).any():
            return halves
    return np.zeros(len(points), np.int64)


def split(points: np.ndarray, clusters: np.ndarray, labels: np.ndarray, min_classes: int = 2) -> np.ndarray:
    """Clusters of half the size, int64 [n]: cluster c becomes 2c and 2c + 1, or 2c alone where no half would be large
    enough, see `two_means`.

    Args:
        points: float [n, dim].
        clusters: int64 [n], from 0.
        labels: int64 [n].
        min_classes: Classes that each half needs.
    """
    found = 2 * clusters
    for cluster in np.unique(clusters):
        rows = np.flatnonzero(clusters == cluster)
        found[rows] += two_means(points[rows], labels[rows], min_classes)
    return found


def matched(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """The new halves 2c and 2c + 1 with the numbers of the old ones, int64 [n], so that the most images keep theirs.

    Args:
        new: int64 [n].
        old: int64 [n], of the same parents: new // 2 == old // 2.
    """
    found = new.copy()
    for parent in np.unique(new // 2):
        rows = np.flatnonzero(new // 2 == parent)
        if (new[rows] == old[rows]).mean() < 0.5:
            found[rows] ^= 1
    return found


def mean_cosine(masks: Tensor) -> Tensor:
    """The mean cosine of two different masks, those below 0 cut off; 0 of a single mask, still with its graph.

    Args:
        masks: float [n, dim].
    """
    unit = F.normalize(F.relu(masks))
    n = len(masks)
    total = (unit @ unit.T).sum() - unit.square().sum()
    return total / max(1, n * (n - 1))


class MaskedEmbedding(ClusteredBatches):
    """See `HierarchicalDivide`.

    Attributes:
        masks: float [n_clusters, dim]; the first `n_leaves` are in use.
        n_leaves: int64 [], clusters now.
    """

    settings: HierarchicalDivide
    n_leaves: Tensor

    def __init__(
        self, settings: HierarchicalDivide, dim: int, n_classes: int, labels: Tensor, batch_classes: int = 0
    ) -> None:
        """One cluster of all images; all masks are ones.

        Args:
            settings: See `HierarchicalDivide`.
            dim: Numbers of an embedding.
            n_classes: Classes of the training set.
            labels: int64 [n_items], the class of each training image.
            batch_classes: Different classes of a batch; 0 where images are drawn one by one.

        Raises:
            ValueError: there are too few classes.
        """
        super().__init__(settings, n_classes, labels, batch_classes)
        self.masks = nn.Parameter(torch.ones(settings.n_clusters, dim))
        self.register_buffer("n_leaves", torch.tensor(1))

    def part_of(self, embeddings: Tensor, clusters: Tensor) -> Tensor:
        """See `ClusteredBatches`: the embedding under the cluster's mask."""
        return embeddings * F.relu(self.masks[clusters])

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`."""
        between = mean_cosine(self.masks[: int(self.n_leaves)])
        return super().forward(batch) | {"masks": self.settings.mask_weight * int(self.is_divided) * between}

    @torch.no_grad()
    def divide(self, epoch: int, look: Look) -> np.ndarray | None:
        """See `ClusteredBatches`: 2-means of the features of each cluster.

        A half with too few classes is never made, so that these clusters are never refused. Masks that come from an
        earlier stage belonged to its clusters: a stage begins with ones.
        """
        s, n, old = self.settings, int(self.n_leaves), self._now()
        if epoch == 0:
            self.masks.fill_(1.0)
        if epoch == 0 or epoch % s.every_epochs:
            return None
        features = of_all(look.features, len(old))
        if n == s.n_clusters:
            return matched(split(features, old // 2, self.labels, self.min_classes), old)
        self.masks[: 2 * n] = self.masks[:n].repeat_interleave(2, dim=0)
        self.n_leaves.fill_(2 * n)
        return split(features, old, self.labels, self.min_classes)

    def rates(self) -> dict[str, float]:
        """See `Objective`."""
        return {"masks": self.settings.mask_lr_factor}

    def undecayed(self) -> tuple[str, ...]:
        """See `Objective`."""
        return ("masks",)

    def curves(self, epoch: int) -> dict[str, float]:
        """See `Objective`; `mask_cosine` is the mean cosine between masks."""
        cosine = round(float(mean_cosine(self.masks.detach()[: int(self.n_leaves)])), 6)
        return super().curves(epoch) | {"mask_cosine": cosine}
