"""From the settings of an objective to its module: one row of `TABLE` for each kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from guie.settings.objective import ArcFace, CosFace, Softmax
from guie.settings.stage import Stage
from guie.train.objectives.base import Objective
from guie.train.objectives.margin import MarginSoftmax


@dataclass(frozen=True)
class Shape:
    """What an objective is built for.

    Attributes:
        n_classes: Classes of the training set.
        dim: Numbers of an embedding.
        feature_dim: Numbers of a feature.
        counts: [n_classes], training rows of each class.
        has_mean_centers: Whether class centres start as the means of their classes' embeddings.
    """

    n_classes: int
    dim: int
    feature_dim: int
    counts: Tensor
    has_mean_centers: bool = False


def _margin(settings: Any, shape: Shape) -> Objective:
    return MarginSoftmax(settings, shape.n_classes, shape.dim, shape.counts, shape.has_mean_centers)


TABLE: dict[type, Callable[[Any, Shape], Objective]] = {
    ArcFace: _margin,
    CosFace: _margin,
    Softmax: _margin,
}


def build_objective(stage: Stage, n_classes: int, feature_dim: int, counts: Tensor) -> Objective:
    """A fresh objective, drawn with torch's random generator.

    Args:
        stage: Its objective's settings, its neck's width, and how class centres start.
        n_classes: Classes of the training set.
        feature_dim: Numbers of a feature.
        counts: [n_classes], training rows of each class.
    """
    shape = Shape(n_classes, stage.neck.dim, feature_dim, counts, stage.start.has_mean_centers)
    return TABLE[type(stage.objective)](stage.objective, shape)
