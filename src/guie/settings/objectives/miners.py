"""Which pairs or triplets of a batch a loss is computed of. Distances are Euclidean, of unit vectors: 0 to 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from guie.settings.fields import check_range, within
from guie.settings.objectives.kind import LARGEST_DISTANCE

MOST_TRIPLETS = 4096  # of an image as their anchor, if nothing else is set


@dataclass(frozen=True)
class BatchHard:
    """One triplet of each image: its farthest positive and its nearest negative.

    Source: Hermans et al., In defense of the triplet loss, arXiv 1703.07737.
    """


@dataclass(frozen=True)
class SemiHard:
    """All triplets whose negative is farther than the positive, but by no more than a margin.

    No triplet is taken where none is such; the loss of a batch without any is 0.

    Attributes:
        margin_distance: The most by which the negative may be farther than the positive.

    Source: Schroff et al., FaceNet, CVPR 2015, arXiv 1503.03832.
    """

    margin_distance: float = within(0.2, low=0.0, high=LARGEST_DISTANCE)


@dataclass(frozen=True)
class EasyPositive:
    """One triplet of each image: its nearest positive and a hard negative.

    Attributes:
        negatives: `hard` takes the nearest negative, `semihard` the nearest of those that are farther than the
            positive. An image without such a negative is left out.

    Source: Xuan et al., Improved embeddings with easy positive triplet mining, WACV 2020, arXiv 1904.04370.
    """

    negatives: Literal["semihard", "hard"] = "semihard"


@dataclass(frozen=True)
class DistanceWeighted:
    """Each pair of a class with one negative, which is drawn so that all distances come equally often.

    On a sphere of many dimensions nearly all distances are near sqrt(2). A negative at distance d is drawn with weight
    1 / q(d), where q is the density of distances between random points: q(d) = d^(D-2) (1 - d^2/4)^((D-3)/2).

    Attributes:
        cutoff_distance: Negatives that are nearer are drawn as if they were this far.
        max_distance: Negatives that are this far or farther are not drawn. An image without a nearer one is left out.

    Source: Wu et al., Sampling matters in deep embedding learning, ICCV 2017, arXiv 1706.07567.
    """

    cutoff_distance: float = within(0.5, low=1e-3, high=LARGEST_DISTANCE)
    max_distance: float = within(1.4, low=1e-3, high=LARGEST_DISTANCE)

    def check(self, at: str) -> None:
        """Raises ValueError where the cut-off is not below the largest distance."""
        check_range(f"{at}.cutoff_distance", self.cutoff_distance, 0.0, self.max_distance)


@dataclass(frozen=True)
class MultiSimilarityMiner:
    """The pairs that are hard beside the image's other pairs.

    A negative is kept if its cosine exceeds that of the image's farthest positive less epsilon, a positive if its
    cosine is below that of the nearest negative plus epsilon.

    Attributes:
        epsilon_cosine: The larger, the more pairs are kept.

    Source: Wang et al., Multi-similarity loss, CVPR 2019, arXiv 1904.06627.
    """

    epsilon_cosine: float = within(0.1, low=-1.0, high=2.0)


Miner = BatchHard | DistanceWeighted | EasyPositive | MultiSimilarityMiner | SemiHard
