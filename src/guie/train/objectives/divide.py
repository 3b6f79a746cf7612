"""Divide and Conquer: each cluster of the training images trains its own slice of the embedding."""

from __future__ import annotations

import logging

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from guie.settings.objectives.divide import DivideConquer, HierarchicalDivide
from guie.train.objectives.base import Batch, Look, Objective
from guie.train.objectives.clusters import cluster_curves, k_means, of_all, relabelled, usable
from guie.train.objectives.draws import generator_of
from guie.train.objectives.margin_triplets import class_triplets, margin_loss
from guie.train.objectives.step_means import StepMeans, pair_cosines

log = logging.getLogger(__name__)


class ClusteredBatches(Objective):
    """The margin loss of batches that are of one cluster each, on the cluster's part of the embedding; later of all
    images, on the whole embedding.

    Attributes:
        clusters: int64 [n_items], the cluster of each training image; that of an image left out, too.
        is_divided: int64 [], 1 where batches are of one cluster now, else 0.
        n_refused: int64 [], clusterings of the stage that left out every image.
        min_classes: Classes of two images or more that a cluster needs.
    """

    clusters: Tensor
    is_divided: Tensor
    n_refused: Tensor

    def __init__(
        self, settings: DivideConquer | HierarchicalDivide, n_classes: int, labels: Tensor, batch_classes: int
    ) -> None:
        """Before the first clustering all images are in cluster 0.

        Args:
            settings: Clusters, epochs, margin.
            n_classes: Classes of the training set.
            labels: int64 [n_items], the class of each training image.
            batch_classes: Different classes of a batch; 0 where images are drawn one by one.

        Raises:
            ValueError: there are too few classes.
        """
        super().__init__()
        self.settings, self.kind = settings, type(settings).__name__
        for name in ("n_clusters", "min_classes"):
            if getattr(settings, name) > n_classes:
                raise ValueError(
                    f"{self.kind}: objective.{name} is {getattr(settings, name)}, and there are {n_classes} classes; "
                    "make it smaller"
                )
        self.min_classes = max(2, settings.min_classes, batch_classes)
        self.labels = labels.cpu().numpy()
        self.register_buffer("clusters", torch.zeros(len(labels), dtype=torch.int64))
        self.register_buffer("is_divided", torch.tensor(0))
        self.register_buffer("n_refused", torch.tensor(0))
        self.means = StepMeans(("active_share", "positive_cosine", "negative_cosine"))
        self.sizes: dict[str, float] = {}  # of the clusters, once they are asked for in an epoch

    def part_of(self, embeddings: Tensor, clusters: Tensor) -> Tensor:
        """The part of each embedding that its cluster trains, float [n, width].

        Args:
            embeddings: float [n, dim].
            clusters: int64 [n].
        """
        raise NotImplementedError

    def divide(self, epoch: int, look: Look) -> np.ndarray | None:
        """The clusters from this epoch on, int64 [n_items]; None where they stay."""
        raise NotImplementedError

    def margin(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The margin loss, and the share of pairs that have a part in it; batches are of one cluster, see `groups`."""
        s, part = self.settings, batch.embeddings
        if self.is_divided:
            part = self.part_of(part, self.clusters[batch.items])
        unit = F.normalize(part)
        triplets = class_triplets(unit, batch.labels, generator_of(batch, self.kind))
        return margin_loss(unit, triplets, s.margin_distance, s.beta_distance)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`."""
        return {"margin": self.margin(batch)[0]}

    @torch.no_grad()
    def begin_epoch(self, epoch: int, look: Look) -> None:
        """Clusters the training images where a clustering is due. One that leaves out every image is refused: the
        earlier clusters stay.

        Raises:
            ValueError: the first clusters of the stage leave out every image.
        """
        self.means.reset()
        self.sizes = {}
        self.is_divided.fill_(int(epoch < self.settings.n_divided_epochs))
        if not self.is_divided:
            return
        found = self.divide(epoch, look)
        n_left_out = int((usable(self._now() if found is None else found, self.labels, self.min_classes) < 0).sum())
        is_refused = n_left_out == len(self.labels)
        if is_refused and epoch == 0:
            raise ValueError(
                f"{self.kind}: no cluster holds {self.min_classes} classes with two images each; make "
                "objective.n_clusters, objective.min_classes or the classes of a batch fewer"
            )
        if found is None:
            return
        if is_refused:
            self.n_refused += 1
            text = "%s: in epoch %d no new cluster holds %d classes with two images each; the earlier clusters stay"
            log.warning(text, self.kind, epoch + 1, self.min_classes)
            return
        if n_left_out:
            log.warning(
                "%s: in epoch %d %d of %d images are left out: alone of their class in their cluster, or in one of "
                "fewer than %d classes",
                *(self.kind, epoch + 1, n_left_out, len(self.labels), self.min_classes),
            )
        self.clusters.copy_(torch.from_numpy(found))

    def _now(self) -> np.ndarray:
        """The clusters as they are, int64 [n_items]."""
        return self.clusters.cpu().numpy()

    @torch.no_grad()
    def after_step(self, batch: Batch, look: Look) -> None:
        """Counts the active share and the cosines of the whole embedding."""
        if batch.is_counted:
            active_share = self.margin(batch)[1]
            self.means.add({"active_share": active_share, **pair_cosines(batch.embeddings, batch.labels)})

    def groups(self) -> np.ndarray | None:
        """See `Objective`: the clusters, until all images train the whole embedding."""
        if not self.is_divided:
            return None
        return usable(self._now(), self.labels, self.min_classes)

    def curves(self, epoch: int) -> dict[str, float]:
        """See `Objective`; one cluster of all images where nothing is divided."""
        if not self.sizes:
            groups = self.groups()
            self.sizes = cluster_curves(np.zeros(len(self.clusters), np.int64) if groups is None else groups)
        return self.sizes | {"refused_clusterings": int(self.n_refused)} | self.means.values()


class DividedEmbedding(ClusteredBatches):
    """See `DivideConquer`."""

    settings: DivideConquer

    def __init__(
        self, settings: DivideConquer, dim: int, n_classes: int, labels: Tensor, batch_classes: int = 0
    ) -> None:
        """An embedding of slices of equal width.

        Args:
            settings: See `DivideConquer`.
            dim: Numbers of an embedding.
            n_classes: Classes of the training set.
            labels: int64 [n_items], the class of each training image.
            batch_classes: Different classes of a batch; 0 where images are drawn one by one.

        Raises:
            ValueError: the embedding cannot be cut so, or there are too few classes.
        """
        super().__init__(settings, n_classes, labels, batch_classes)
        n = settings.n_clusters
        if dim % n or dim // n < 2:
            raise ValueError(
                f"DivideConquer: neck.dim {dim} cannot be cut into {n} slices of equal width with at least 2 numbers; "
                "change neck.dim or objective.n_clusters"
            )
        self.width = dim // n

    def part_of(self, embeddings: Tensor, clusters: Tensor) -> Tensor:
        """See `ClusteredBatches`: the cluster's slice."""
        slices = embeddings.unflatten(1, (self.settings.n_clusters, self.width))
        return slices[torch.arange(len(slices), device=slices.device), clusters]

    def divide(self, epoch: int, look: Look) -> np.ndarray | None:
        """See `ClusteredBatches`: k-means of the normalised embeddings."""
        s = self.settings
        if epoch % s.every_epochs:
            return None
        embeddings = of_all(look.embeddings, len(self.clusters))
        points = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True).clip(1e-12)
        found = k_means(points, s.n_clusters)
        return relabelled(found, self._now(), s.n_clusters) if epoch else found
