"""From the settings of an objective to its module."""

from __future__ import annotations

from torch import Tensor

from guie.settings.stage import Stage
from guie.train.objectives.base import Objective
from guie.train.objectives.margin import MarginSoftmax


def build_objective(stage: Stage, n_classes: int, counts: Tensor) -> Objective:
    """A fresh objective, drawn with torch's random generator.

    Args:
        stage: Its objective's settings, its neck's width, and how class centres start.
        n_classes: Classes of the training set.
        counts: [n_classes], training rows of each class.
    """
    return MarginSoftmax(stage.objective, n_classes, stage.neck.dim, counts, stage.start.has_mean_centers)
