"""Builds the module of an objective from its settings: `TABLE` has one row for each kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from guie.settings.objective import (
    ArcFace,
    Bier,
    Circle,
    Contrastive,
    CosFace,
    DistanceContrastive,
    Diva,
    DivideConquer,
    GroupLoss,
    HierarchicalDivide,
    KeepCosines,
    KoLeo,
    Library,
    LiftedStructure,
    MarginLoss,
    MessagePassing,
    Mic,
    MultiSimilarity,
    NtXent,
    Pads,
    ProxyAnchor,
    ProxyGml,
    ProxyNca,
    RhoContrastive,
    RhoMargin,
    RhoTriplet,
    SharingMatters,
    Softmax,
    SoftTriple,
    SphereFace,
    SphereFaceR,
    Sum,
    SupCon,
    ThresholdConsistentMargin,
    Triplet,
)
from guie.settings.stage import Stage
from guie.train.objectives.base import Objective
from guie.train.objectives.bier import BoostedLearners
from guie.train.objectives.diva import DiverseTasks
from guie.train.objectives.divide import DividedEmbedding
from guie.train.objectives.group import GroupObjective
from guie.train.objectives.hierarchy import MaskedEmbedding
from guie.train.objectives.keep import KeepCosinesTerm
from guie.train.objectives.margin_softmax import MarginSoftmax
from guie.train.objectives.message import MessageObjective
from guie.train.objectives.mic import TraitEncoder
from guie.train.objectives.pads import PadsObjective
from guie.train.objectives.proxies import ProxyAnchorObjective, ProxyNcaObjective, SoftTripleObjective
from guie.train.objectives.proxy_gml import ProxyGmlLoss
from guie.train.objectives.regularisers import ConsistentMarginTerm, KoLeoTerm
from guie.train.objectives.sharing import SharedEncoder
from guie.train.objectives.sphereface import SphereFaceSoftmax
from guie.train.objectives.sums import SumOfObjectives
from guie.train.objectives.tuples import RhoTuples


@dataclass(frozen=True)
class Shape:
    """What an objective is built for.

    Attributes:
        n_classes: Classes of the training set.
        dim: Numbers of an embedding.
        feature_dim: Numbers of a feature.
        counts: [n_classes], training rows of each class.
        labels: int64 [n_items], the class of each training image; n_classes or more of images that objectives with
            classes do not see.
        has_mean_centers: Whether class centres and proxies start as the means of their classes' embeddings.
        batch_classes: Different classes of a batch; 0 where images are drawn one by one.
        is_backbone_frozen: Whether features stay those of the stage's start.
        taught_dims: Numbers of what each teacher of the objective gives: of an embedding, or of a feature.
    """

    n_classes: int
    dim: int
    feature_dim: int
    counts: Tensor
    labels: Tensor
    has_mean_centers: bool = False
    batch_classes: int = 0
    is_backbone_frozen: bool = False
    taught_dims: Mapping[str, int] = field(default_factory=dict)

    @property
    def n_items(self) -> int:
        """Training images."""
        return len(self.labels)

    @property
    def n_labelled(self) -> int:
        """Training images that objectives with classes see."""
        return int((self.labels < self.n_classes).sum())


def _margin(settings: Any, shape: Shape) -> Objective:
    return MarginSoftmax(settings, shape.n_classes, shape.dim, shape.counts, shape.has_mean_centers)


def _group(settings: GroupLoss, shape: Shape) -> Objective:
    return GroupObjective(settings, shape.n_classes, shape.dim, shape.feature_dim)


def _message(settings: MessagePassing, shape: Shape) -> Objective:
    return MessageObjective(settings, shape.n_classes, shape.dim)


def _pads(settings: Pads, shape: Shape) -> Objective:
    return PadsObjective(settings, shape.n_classes, shape.labels)


def _rho(settings: Any, shape: Shape) -> Objective:
    return RhoTuples(settings, shape.n_classes)


def _sphere(settings: Any, shape: Shape) -> Objective:
    return SphereFaceSoftmax(settings, shape.n_classes, shape.dim, shape.has_mean_centers)


def _proxy_gml(settings: Any, shape: Shape) -> Objective:
    return ProxyGmlLoss(settings, shape.n_classes, shape.dim, shape.has_mean_centers)


def _proxies(settings: Any, shape: Shape) -> Objective:
    kinds: dict[type, Callable[..., Objective]] = {
        ProxyAnchor: ProxyAnchorObjective,
        ProxyNca: ProxyNcaObjective,
        SoftTriple: SoftTripleObjective,
    }
    return kinds[type(settings)](settings, shape.n_classes, shape.dim, shape.has_mean_centers)


def _divided(settings: Any, shape: Shape) -> Objective:
    kind: Callable[..., Objective] = DividedEmbedding if isinstance(settings, DivideConquer) else MaskedEmbedding
    return kind(settings, shape.dim, shape.n_classes, shape.labels, shape.batch_classes)


def _keep(settings: KeepCosines, shape: Shape) -> Objective:
    dim = shape.taught_dims[settings.of] if settings.of else shape.feature_dim
    is_of_batch = shape.is_backbone_frozen and not settings.of
    return KeepCosinesTerm(settings, dim, shape.n_items, is_of_batch)


def _consistent_margin(settings: Any, shape: Shape) -> Objective:
    return ConsistentMarginTerm(settings, shape.dim, shape.n_labelled)


def _pairs(settings: Any, shape: Shape) -> Objective:
    from guie.train.objectives.pairs import PairObjective  # imports pytorch-metric-learning: half a second

    return PairObjective(settings, shape.n_classes, shape.dim, shape.n_labelled)


def _sum(settings: Sum, shape: Shape) -> Objective:
    names = [type(term).__name__ for term in settings.terms]
    parts = [TABLE[type(term)](term, shape) for term in settings.terms]
    has_unlabelled = bool((shape.labels >= shape.n_classes).any())
    return SumOfObjectives(
        names, parts, [has_unlabelled and term.needs_labels for term in settings.terms], shape.n_classes
    )


TABLE: dict[type, Callable[[Any, Shape], Objective]] = {
    ArcFace: _margin,
    Bier: lambda settings, shape: BoostedLearners(settings, shape.dim),
    Circle: _pairs,
    Contrastive: _pairs,
    CosFace: _margin,
    DistanceContrastive: _pairs,
    Diva: lambda settings, shape: DiverseTasks(settings, shape.dim, shape.n_classes, shape.n_items),
    DivideConquer: _divided,
    GroupLoss: _group,
    HierarchicalDivide: _divided,
    KeepCosines: _keep,
    KoLeo: lambda settings, shape: KoLeoTerm(settings),
    Library: _pairs,
    LiftedStructure: _pairs,
    MarginLoss: _pairs,
    MessagePassing: _message,
    Mic: lambda settings, shape: TraitEncoder(settings, shape.dim, shape.feature_dim, shape.labels),
    MultiSimilarity: _pairs,
    NtXent: _pairs,
    Pads: _pads,
    ProxyAnchor: _proxies,
    ProxyGml: _proxy_gml,
    ProxyNca: _proxies,
    RhoContrastive: _rho,
    RhoMargin: _rho,
    RhoTriplet: _rho,
    SharingMatters: lambda settings, shape: SharedEncoder(settings, shape.dim, shape.feature_dim, shape.n_classes),
    SoftTriple: _proxies,
    Softmax: _margin,
    SphereFace: _sphere,
    SphereFaceR: _sphere,
    Sum: _sum,
    SupCon: _pairs,
    ThresholdConsistentMargin: _consistent_margin,
    Triplet: _pairs,
}


def build_objective(
    stage: Stage, feature_dim: int, counts: Tensor, labels: Tensor, taught_dims: Mapping[str, int] | None = None
) -> Objective:
    """A fresh objective, drawn with torch's random generator.

    Args:
        stage: Its objective's settings, its neck's width, how class centres start, and the classes of a batch.
        feature_dim: Numbers of a feature.
        counts: [n_classes], training rows of each class.
        labels: int64 [n_items], the class of each training image.
        taught_dims: See `Shape`.
    """
    shape = Shape(
        n_classes=len(counts),
        dim=stage.neck.dim,
        feature_dim=feature_dim,
        counts=counts,
        labels=labels,
        has_mean_centers=stage.start.has_mean_centers,
        batch_classes=stage.batch_classes,
        is_backbone_frozen=stage.is_backbone_frozen,
        taught_dims=taught_dims or {},
    )
    return TABLE[type(stage.objective)](stage.objective, shape)
