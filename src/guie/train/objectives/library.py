"""Wraps losses of pytorch-metric-learning and guards against their pitfalls.

Pairs and triplets are always chosen here and passed to the library. Otherwise the library builds a tensor of all
triplets, [n, n, n], and with a memory it takes a row itself for one of its positives.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from pytorch_metric_learning import losses, reducers
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance
from torch import Tensor

from guie.settings.fields import nearest
from guie.settings.objectives.library import OF_PAIRS, Library
from guie.settings.objectives.pairs import (
    Circle,
    Contrastive,
    DistanceContrastive,
    LiftedStructure,
    MarginLoss,
    MultiSimilarity,
    NtXent,
    PairSettings,
    SupCon,
    Triplet,
)
from guie.train.objectives.compared import Chosen, Compared
from guie.train.objectives.distances import unit_distances
from guie.train.objectives.margin import EPSILON
from guie.train.objectives.pair_losses import ContrastiveSum, Lifted, NtXentByRows, PairLoss

OF_TRIPLETS = ("MarginLoss", "TripletMarginLoss")
# Losses that a cosine of 1 would break: by an angle without a slope, or a histogram without a bin for it.
OF_ANGLES = (
    "ArcFaceLoss",
    "HistogramLoss",
    "LargeMarginSoftmaxLoss",
    "SphereFaceLoss",
    "SubCenterArcFaceLoss",
    "TupletMarginLoss",
)
# Arguments of the library's classes that are no options here: objects such as reducers, the numbers of classes and of
# the embedding, which are known, and what classes hand on to their bases.
NO_OPTIONS = {"self", "args", "kwargs", "collect_stats", "distance", "mat_based_loss", "reducer"}
NO_OPTIONS |= {"weight_init_func", "weight_regularizer", "weight_reg_weight"}
NO_OPTIONS |= {"embedding_regularizer", "embedding_reg_weight", "num_classes", "embedding_size"}


class UnitDistance(LpDistance):
    """Euclidean distance of unit vectors with finite slopes, see `unit_distances`."""

    def compute_mat(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        """float [n, m], of vectors that the library has normalised."""
        return unit_distances(query_emb, ref_emb)


class InsideCosine(CosineSimilarity):
    """Cosines that stay so far from +-1 that the slope of their angle is finite."""

    def compute_mat(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        """float [n, m], of vectors that the library has normalised."""
        cosines: Tensor = super().compute_mat(query_emb, ref_emb)
        return cosines.clamp(-1 + EPSILON, 1 - EPSILON)


class OfLibrary(PairLoss):
    """A loss of pytorch-metric-learning.

    Attributes:
        inner: The library's module.
    """

    def __init__(self, inner: Any, takes_triplets: bool = False, takes_chosen: bool = True) -> None:
        """Wraps the library's module.

        Args:
            inner: Of a class in `pytorch_metric_learning.losses`.
            takes_triplets: See `PairLoss`.
            takes_chosen: See `PairLoss`.
        """
        super().__init__()
        self.inner, self.takes_triplets, self.takes_chosen = inner, takes_triplets, takes_chosen

    def forward(self, compared: Compared, chosen: Chosen) -> Tensor:
        """See `PairLoss`."""
        loss: Tensor = self.inner(*self._given(compared, chosen))
        return loss.sum()  # of one number, which some losses give as a vector

    def parts(self, compared: Compared, chosen: Chosen) -> list[Tensor]:
        """See `PairLoss`; an empty list where the library tells only the average."""
        rows, labels, chosen_or_none, others, other_labels = self._given(compared, chosen)
        found = self.inner.compute_loss(rows, labels, chosen_or_none, others, other_labels)
        costs = [found[name]["losses"] for name in found if "reg_loss" not in name]
        listed = [cost if isinstance(cost, Tensor) else rows.new_zeros(0) for cost in costs]  # a plain 0: of nothing
        return [cost for cost in listed if cost.ndim]

    def curves(self) -> dict[str, float]:
        """The learned boundary of `MarginLoss`, the mean over the classes."""
        beta = getattr(self.inner, "beta", None)
        return {"beta_distance": round(float(beta.detach().mean()), 6)} if isinstance(beta, Tensor) else {}

    def _given(self, compared: Compared, chosen: Chosen) -> tuple[Any, ...]:
        """The library's arguments: rows, labels, what is chosen, and what the rows are compared with."""
        rows, labels = compared.rows, compared.labels
        if not self.takes_chosen:
            return rows, labels, None, rows, labels
        if all(len(numbers) <= 1 for numbers in chosen):
            chosen = tuple(torch.cat([numbers, numbers]) for numbers in chosen)  # of one pair alone its loss would be 0
        return rows, labels, chosen, compared.others, compared.other_labels


def pair_loss(settings: PairSettings, n_classes: int) -> PairLoss:
    """The loss of settings of pairs or triplets."""
    match settings:
        case Contrastive():
            return ContrastiveSum(settings)
        case NtXent():
            return NtXentByRows(settings)
        case DistanceContrastive(positive_margin_distance=positive, negative_margin_distance=negative):
            return OfLibrary(losses.ContrastiveLoss(positive, negative, distance=UnitDistance()))
        case Triplet():
            return _triplet(settings)
        case MarginLoss():
            return _margin_loss(settings, n_classes)
        case LiftedStructure(is_generalised=True, margin_distance=margin):
            return OfLibrary(losses.GeneralizedLiftedStructureLoss(margin, distance=UnitDistance()))
        case LiftedStructure():
            return Lifted(settings)
        case MultiSimilarity(alpha=alpha, beta=beta, base_cosine=base):
            return OfLibrary(losses.MultiSimilarityLoss(alpha, beta, base))
        case SupCon(temperature=temperature):
            return OfLibrary(losses.SupConLoss(temperature))
        case Circle(margin_cosine=margin, scale=scale):
            return OfLibrary(losses.CircleLoss(margin, scale))
    raise TypeError(f"{type(settings).__name__} is no loss of pairs")


def _triplet(settings: Triplet) -> OfLibrary:
    inner = losses.TripletMarginLoss(
        margin=settings.margin_distance,
        smooth_loss=settings.has_soft_margin,
        distance=UnitDistance(power=2 if settings.is_squared else 1),
        reducer=reducers.MeanReducer() if settings.mean_over == "all" else None,
    )
    return OfLibrary(inner, takes_triplets=True)


def _margin_loss(settings: MarginLoss, n_classes: int) -> OfLibrary:
    """The boundaries are learned whatever their rate: those that are not are no part of the library's state."""
    inner = losses.MarginLoss(
        margin=settings.margin_distance,
        nu=settings.beta_weight,
        beta=settings.beta_distance,
        learn_beta=True,
        num_classes=n_classes if settings.has_class_beta else None,
        distance=UnitDistance(),
    )
    return OfLibrary(inner, takes_triplets=True)


def library_loss(settings: Library, n_classes: int, dim: int) -> OfLibrary:
    """The loss that the settings name.

    Raises:
        ValueError: the loss has no such option, needs one that is not given, or refuses a value.
    """
    kind = getattr(losses, settings.loss)
    takes = _parameters(kind)
    options = sorted(set(takes) - NO_OPTIONS)
    given: dict[str, Any] = dict(settings.options)
    for name in given:
        if name not in options:
            known = nearest(name, options) if options else "it has none"
            raise ValueError(f"Library: {settings.loss} has no option {name!r}; {known}")
    needed = [name for name in options if takes[name].default is inspect.Parameter.empty and name not in given]
    if needed:
        raise ValueError(f"Library: {settings.loss} needs the options {', '.join(needed)}, which have no defaults")
    for name, number in (("num_classes", n_classes), ("embedding_size", dim)):
        if name in takes and takes[name].default is inspect.Parameter.empty:
            given[name] = number
    try:
        inner = kind(**given)
    except (AssertionError, TypeError, ValueError) as error:
        raise ValueError(f"Library: {settings.loss} refuses its options {dict(settings.options)}: {error}") from error
    if settings.loss in OF_ANGLES:
        inner.distance = InsideCosine()
    takes_chosen = settings.loss in OF_PAIRS
    return OfLibrary(inner, settings.loss in OF_TRIPLETS, takes_chosen and not given.get("swap", False))


def _parameters(kind: type) -> dict[str, inspect.Parameter]:
    """What a class and its bases take when they are made: many losses hand on what they do not name."""
    found: dict[str, inspect.Parameter] = {}
    for base in reversed(kind.__mro__):
        if "__init__" in vars(base):
            found |= inspect.signature(base.__init__).parameters  # type: ignore[misc]
    return found
