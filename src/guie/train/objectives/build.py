"""From the settings of an objective to its module: one row of `TABLE` for each kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from guie.settings.objective import (
    ArcFace,
    Bier,
    CosFace,
    Diva,
    DivideConquer,
    HierarchicalDivide,
    Mic,
    SharingMatters,
    Softmax,
    Sum,
)
from guie.settings.stage import Stage
from guie.train.objectives.base import Objective
from guie.train.objectives.bier import BoostedLearners
from guie.train.objectives.diva import DiverseTasks
from guie.train.objectives.divide import DividedEmbedding
from guie.train.objectives.hierarchy import MaskedEmbedding
from guie.train.objectives.margin import MarginSoftmax
from guie.train.objectives.mic import TraitEncoder
from guie.train.objectives.sharing import SharedEncoder
from guie.train.objectives.sums import SumOfObjectives


@dataclass(frozen=True)
class Shape:
    """What an objective is built for.

    Attributes:
        n_classes: Classes of the training set.
        dim: Numbers of an embedding.
        feature_dim: Numbers of a feature.
        counts: [n_classes], training rows of each class.
        labels: int64 [n_items], the class of each training image.
        has_mean_centers: Whether class centres start as the means of their classes' embeddings.
    """

    n_classes: int
    dim: int
    feature_dim: int
    counts: Tensor
    labels: Tensor
    has_mean_centers: bool = False

    @property
    def n_items(self) -> int:
        """Training images."""
        return len(self.labels)


def _margin(settings: Any, shape: Shape) -> Objective:
    return MarginSoftmax(settings, shape.n_classes, shape.dim, shape.counts, shape.has_mean_centers)


def _sum(settings: Sum, shape: Shape) -> Objective:
    names = [type(term).__name__ for term in settings.terms]
    return SumOfObjectives(names, [TABLE[type(term)](term, shape) for term in settings.terms])


TABLE: dict[type, Callable[[Any, Shape], Objective]] = {
    ArcFace: _margin,
    Bier: lambda settings, shape: BoostedLearners(settings, shape.dim),
    CosFace: _margin,
    Diva: lambda settings, shape: DiverseTasks(settings, shape.dim, shape.n_classes, shape.n_items),
    DivideConquer: lambda settings, shape: DividedEmbedding(settings, shape.dim, shape.n_classes, shape.labels),
    HierarchicalDivide: lambda settings, shape: MaskedEmbedding(settings, shape.dim, shape.n_classes, shape.labels),
    Mic: lambda settings, shape: TraitEncoder(settings, shape.dim, shape.feature_dim, shape.labels),
    SharingMatters: lambda settings, shape: SharedEncoder(settings, shape.dim, shape.feature_dim, shape.n_classes),
    Softmax: _margin,
    Sum: _sum,
}


def build_objective(stage: Stage, feature_dim: int, counts: Tensor, labels: Tensor) -> Objective:
    """A fresh objective, drawn with torch's random generator.

    Args:
        stage: Its objective's settings, its neck's width, and how class centres start.
        feature_dim: Numbers of a feature.
        counts: [n_classes], training rows of each class.
        labels: int64 [n_items], the class of each training image.
    """
    shape = Shape(len(counts), stage.neck.dim, feature_dim, counts, labels, stage.start.has_mean_centers)
    return TABLE[type(stage.objective)](stage.objective, shape)
