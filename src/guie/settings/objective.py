"""What a stage minimises: all kinds of objectives. A recipe names one, or several in a `Sum`."""

from guie.settings.objectives.graphs import ProxyGml
from guie.settings.objectives.margins import ArcFace, ClassMargin, CosFace, GrowingMargin, Softmax
from guie.settings.objectives.memory import Memory
from guie.settings.objectives.regularisers import (
    KoLeo,
    RhoContrastive,
    RhoMargin,
    RhoTriplet,
    ThresholdConsistentMargin,
)
from guie.settings.objectives.spheres import SphereFace, SphereFaceR
from guie.settings.objectives.sums import Sum, Term

__all__ = [
    "ArcFace",
    "ClassMargin",
    "CosFace",
    "GrowingMargin",
    "KoLeo",
    "Memory",
    "ObjectiveSettings",
    "ProxyGml",
    "RhoContrastive",
    "RhoMargin",
    "RhoTriplet",
    "Softmax",
    "SphereFace",
    "SphereFaceR",
    "Sum",
    "ThresholdConsistentMargin",
]

ObjectiveSettings = Term | Sum
"""What a stage may minimise: a class for each kind of objective, a file for each family."""
