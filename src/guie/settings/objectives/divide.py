"""Divide and Conquer: clusters of the training images, each with a part of the embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from guie.settings.fields import within
from guie.settings.objectives.kind import LARGEST_DISTANCE, Kind


class _Clustered(Kind):
    """Kinds whose batches are of one cluster of the training images each."""

    has_groups = True
    needs_positives = True
    needs_all_labels = True
    min_classes: int

    def check_batch(self, at: str, n_classes: int) -> None:
        """See `Kind`; ValueError, too, where a cluster may have fewer classes than a batch."""
        super().check_batch(at, n_classes)
        if 0 < self.min_classes < n_classes:
            raise ValueError(
                f"{at}.min_classes is {self.min_classes}, and a batch has {n_classes} classes of one cluster; take "
                f"{n_classes} or more, or 0"
            )


@dataclass(frozen=True)
class DivideConquer(_Clustered):
    """Each batch is of one cluster of the training images and trains the slice of the embedding that belongs to it.

    The clusters are made by k-means of the normalised embeddings and take turns. The loss is the margin loss with
    distance-weighted negatives, on the slice normalised on its own. An image that is alone of its class in its cluster
    is left out until the next clustering. Where a clustering leaves out every image, the earlier clusters stay; the
    curve `refused_clusterings` counts these.

    Attributes:
        n_clusters: Clusters, and slices of equal width.
        every_epochs: Epochs between two clusterings.
        n_divided_epochs: After so many epochs all images train the whole embedding.
        min_classes: A cluster with fewer classes of two images or more is left out until the next clustering. 0 takes
            the classes of a `PerClass` batch, and 2 where images are drawn one by one.
        margin_distance: Half the width of the band around `beta_distance`, alpha.
        beta_distance: Distance that separates pairs of one class from others; it is not trained.

    Source: Sanakoyeu et al., Divide and conquer the embedding space for metric learning, CVPR 2019, arXiv 1906.05990.
    Ours: `min_classes`; ten restarts of k-means; new clusters are numbered after the old ones that they overlap most.
    """

    n_clusters: int = within(4, low=2, high=10**4)
    every_epochs: int = within(2, low=1, high=10**6)
    n_divided_epochs: int = within(10, low=1, high=10**6)
    min_classes: int = within(0, low=0, high=10**6)
    margin_distance: float = within(0.2, low=0.0, high=LARGEST_DISTANCE)
    beta_distance: float = within(1.2, low=0.0, high=LARGEST_DISTANCE)


@dataclass(frozen=True)
class HierarchicalDivide(_Clustered):
    """Clusters are split in two again and again; each has a learned mask over the whole embedding.

    It begins with one cluster. Each clustering splits every cluster by 2-means of the backbone's features until there
    are `n_clusters`; later ones join the two halves of each and split them anew. A new cluster's mask is a copy of its
    parent's. At test there is no mask. Clusters and masks belong to a stage: a later stage begins with one cluster and
    masks of ones, also where it starts from this one.

    Attributes:
        n_clusters: Clusters at the end, a power of 2.
        every_epochs: Epochs between two clusterings.
        n_divided_epochs: After so many epochs all images train the whole embedding without a mask.
        min_classes: A cluster is split only where both halves have so many classes of two images or more. 0 takes the
            classes of a `PerClass` batch, and 2 where images are drawn one by one.
        mask_weight: Of the mean cosine between masks, which keeps them apart.
        mask_lr_factor: Factor of the stage's learning rate for the masks.
        margin_distance: Half the width of the band around `beta_distance`, alpha.
        beta_distance: Distance that separates pairs of one class from others; it is not trained.

    Source: Sanakoyeu et al., Improving deep metric learning by divide and conquer, TPAMI 2021, arXiv 2109.04003.
    Ours: the backbone is not frozen after a clustering; halves are split anew at the end; masks begin as ones;
    the optimizer's moments of a mask that becomes a copy are those of its row.
    """

    has_weights = True

    n_clusters: int = within(8, low=2, high=2**12)
    every_epochs: int = within(2, low=1, high=10**6)
    n_divided_epochs: int = within(20, low=1, high=10**6)
    min_classes: int = within(0, low=0, high=10**6)
    mask_weight: float = within(0.01, low=0.0, high=1e4)
    mask_lr_factor: float = within(100.0, low=0.0, high=1e6)
    margin_distance: float = within(0.2, low=0.0, high=LARGEST_DISTANCE)
    beta_distance: float = within(1.2, low=0.0, high=LARGEST_DISTANCE)

    def check(self, at: str) -> None:
        """Raises ValueError where clusters that are split in two never become so many."""
        if self.n_clusters & (self.n_clusters - 1):
            below = 1 << (self.n_clusters.bit_length() - 1)
            raise ValueError(f"{at}.n_clusters is {self.n_clusters}, must be a power of 2: {below} or {2 * below}")

    def state_shape(self) -> tuple[Any, ...]:
        """See `Kind`."""
        return ("HierarchicalDivide", self.n_clusters)
