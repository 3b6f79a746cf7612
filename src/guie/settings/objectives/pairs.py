"""Losses of pairs and triplets of the images of a batch. Distances are Euclidean, of unit vectors: 0 to 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from guie.settings.fields import within
from guie.settings.objectives.kind import BETA_LR_FACTOR, LARGEST_DISTANCE, Kind
from guie.settings.objectives.memory import Memory
from guie.settings.objectives.miners import MOST_TRIPLETS, Miner, MultiSimilarityMiner


@dataclass(frozen=True, kw_only=True)
class PairSettings(Kind):
    """What all losses of pairs and triplets have in common.

    A batch is compared with itself and, if there is a memory, with the memory's embeddings as well.

    Attributes:
        weight: Factor of the loss.
        miner: Which pairs or triplets are taken; None takes all.
        memory: Embeddings of earlier batches; None is no memory.
        max_triplets_per_anchor: Where all triplets are taken, or all that are semi-hard, an image with more as their
            anchor takes so many different ones, drawn at random. The default holds all of a batch of 1,024 with 4
            images per class (3,060); a memory of 10,000 gives an image hundreds of thousands.
    """

    weight: float = within(1.0, low=0.0, high=1e4)
    miner: Miner | None = None
    memory: Memory | None = None
    max_triplets_per_anchor: int = within(MOST_TRIPLETS, low=1, high=10**6)

    needs_positives = True


@dataclass(frozen=True, kw_only=True)
class Contrastive(PairSettings):
    """Contrastive loss of cosines, summed over the pairs of an image and averaged over the images of the batch.

    A pair of one class costs 1 - s, a pair of two classes max(0, s - margin), where s is the cosine. With a memory the
    sums grow with it: this is the loss of cross-batch memory and of IRT.

    Attributes:
        margin_cosine: Cosine below which a pair of two classes costs nothing, beta.

    Source: El-Nouby et al., Training vision transformers for image retrieval, arXiv 2102.05644; Wang et al.,
    Cross-batch memory, arXiv 1912.06798.
    """

    margin_cosine: float = within(0.5, low=-1.0, high=1.0)


@dataclass(frozen=True, kw_only=True)
class DistanceContrastive(PairSettings):
    """Contrastive loss of distances: the mean over the pairs of one class that violate their margin, and that over the
    pairs of two classes.

    Each mean is over the pairs that cost something, as in pytorch-metric-learning, so that neither side outweighs the
    other.

    Attributes:
        positive_margin_distance: Pairs of one class cost what they are farther apart than this.
        negative_margin_distance: Pairs of two classes cost what they are closer than this.

    Source: Hadsell et al., Dimensionality reduction by learning an invariant mapping, CVPR 2006.
    """

    positive_margin_distance: float = within(0.0, low=-LARGEST_DISTANCE, high=LARGEST_DISTANCE)
    negative_margin_distance: float = within(1.0, low=-LARGEST_DISTANCE, high=LARGEST_DISTANCE)


@dataclass(frozen=True, kw_only=True)
class Triplet(PairSettings):
    """Triplet loss: max(0, d_ap - d_an + margin), of an anchor a, a positive p and a negative n.

    Attributes:
        margin_distance: How much farther than the positive a negative must be to cost nothing; of squared distances
            where they are squared.
        is_squared: Distances are squared, as in FaceNet.
        has_soft_margin: The cost is log(1 + exp(d_ap - d_an + margin)), which never ends; Hermans et al. take margin 0.
        mean_over: `violations` averages over the triplets that cost something, `all` over all.

    Source: Schroff et al., FaceNet, arXiv 1503.03832; Hermans et al., In defense of the triplet loss, arXiv 1703.07737.
    """

    margin_distance: float = within(0.2, low=0.0, high=4.0)
    is_squared: bool = False
    has_soft_margin: bool = False
    mean_over: Literal["violations", "all"] = "violations"


@dataclass(frozen=True, kw_only=True)
class MarginLoss(PairSettings):
    """Margin loss: max(0, margin + d_ap - beta) + max(0, margin + beta - d_an), with a learned boundary beta.

    The sum over the triplets is divided by the number of terms that are not 0.

    Attributes:
        margin_distance: How far from the boundary a pair must be to cost nothing, alpha.
        beta_distance: The boundary between positives and negatives at the start.
        has_class_beta: Each class has a boundary of its own, that of the anchor's class counts.
        beta_weight: Weight of the boundaries in the loss, nu; above 0 it lowers them.
        beta_lr_factor: Factor of the stage's learning rate for the boundaries; 0 keeps them. Published are 5e-4 for a
            model of 1e-5 (Roth et al., arXiv 2002.08473).

    Source: Wu et al., Sampling matters in deep embedding learning, ICCV 2017, arXiv 1706.07567.
    """

    has_weights = True

    margin_distance: float = within(0.2, low=0.0, high=LARGEST_DISTANCE)
    beta_distance: float = within(1.2, low=0.0, high=LARGEST_DISTANCE)
    has_class_beta: bool = False
    beta_weight: float = within(0.0, low=0.0, high=1e3)
    beta_lr_factor: float = within(BETA_LR_FACTOR, low=0.0, high=1e6)

    def state_shape(self) -> tuple[Any, ...]:
        """See `Kind`."""
        return ("MarginLoss", "class beta" if self.has_class_beta else "one beta")


@dataclass(frozen=True, kw_only=True)
class LiftedStructure(PairSettings):
    """Lifted structure loss: each positive pair against all negatives of its two images.

    Original: the mean over positive pairs of max(0, J)^2 / 2, where J = d_ij + log(sum over the negatives k of i
    exp(margin - d_ik) + sum over those of j exp(margin - d_jl)). Generalised: the mean over the images of
    max(0, log sum of positives exp(d) + log sum of negatives exp(margin - d)).

    Attributes:
        margin_distance: The margin of the negatives.
        is_generalised: The form of Hermans et al.

    Source: Song et al., CVPR 2016, arXiv 1511.06452; Hermans et al., arXiv 1703.07737, equation 6.
    """

    margin_distance: float = within(1.0, low=0.0, high=100.0)
    is_generalised: bool = False

    def check(self, at: str) -> None:
        """Raises ValueError for a memory beside the original form."""
        if self.memory is not None and not self.is_generalised:
            raise ValueError(
                f"{at}.memory is set, but the original lifted structure needs the negatives of both images of a pair, "
                "and a memory's embedding has none; set is_generalised=True"
            )


@dataclass(frozen=True, kw_only=True)
class MultiSimilarity(PairSettings):
    """Multi-similarity loss: the mean over the images of log(1 + sum of positives exp(-alpha (s - base))) / alpha +
    log(1 + sum of negatives exp(beta (s - base))) / beta, where s is the cosine.

    Attributes:
        miner: See `PairSettings`; the paper's is the default.
        alpha: Sharpness for positives.
        beta: Sharpness for negatives.
        base_cosine: The cosine between positives and negatives, lambda.

    Source: Wang et al., CVPR 2019, arXiv 1904.06627; the values of its code.
    """

    miner: Miner | None = MultiSimilarityMiner()
    alpha: float = within(2.0, low=1e-3, high=1e4)
    beta: float = within(50.0, low=1e-3, high=1e4)
    base_cosine: float = within(0.5, low=-1.0, high=1.0)


@dataclass(frozen=True, kw_only=True)
class NtXent(PairSettings):
    """Normalised temperature-scaled cross entropy of each positive pair against the negatives of its first image.

    The image's other positives are not in the denominator.

    Attributes:
        temperature: Divides the cosines.

    Source: Chen et al., SimCLR, ICML 2020, arXiv 2002.05709, with classes in the place of views.
    """

    temperature: float = within(0.07, low=1e-4, high=100.0)


@dataclass(frozen=True, kw_only=True)
class SupCon(PairSettings):
    """Supervised contrastive loss: for each image the mean over its positives of the cross entropy against all other
    images.

    Attributes:
        temperature: Divides the cosines.

    Source: Khosla et al., NeurIPS 2020, arXiv 2004.11362, the form with the mean outside the logarithm.
    """

    temperature: float = within(0.1, low=1e-4, high=100.0)


@dataclass(frozen=True, kw_only=True)
class Circle(PairSettings):
    """Circle loss: softplus(log sum of positives exp(-scale a_p (s - 1 + m)) + log sum of negatives exp(scale a_n
    (s - m))), where a_p = max(0, 1 + m - s) and a_n = max(0, s + m) are constant for the gradient.

    It is the mean over the images whose loss is not 0.

    Attributes:
        margin_cosine: m, the relaxation. The paper has .4 for images of products and birds, .25 for faces.
        scale: Factor of the exponents, gamma.

    Source: Sun et al., CVPR 2020, arXiv 2002.10857.
    """

    margin_cosine: float = within(0.4, low=-1.0, high=1.0)
    scale: float = within(80.0, low=1e-3, high=1e4)
