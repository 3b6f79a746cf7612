"""What a stage minimises: all kinds of objectives. A recipe names one, or several in a `Sum`."""

from guie.settings.objectives.library import Library
from guie.settings.objectives.margins import ArcFace, ClassMargin, CosFace, GrowingMargin, Softmax
from guie.settings.objectives.memory import Memory
from guie.settings.objectives.miners import BatchHard, DistanceWeighted, EasyPositive, MultiSimilarityMiner, SemiHard
from guie.settings.objectives.pairs import (
    Circle,
    Contrastive,
    DistanceContrastive,
    LiftedStructure,
    MarginLoss,
    MultiSimilarity,
    NtXent,
    SupCon,
    Triplet,
)
from guie.settings.objectives.proxies import ProxyAnchor, ProxyNca, SoftTriple
from guie.settings.objectives.sums import Sum, Term

__all__ = [
    "ArcFace",
    "BatchHard",
    "Circle",
    "ClassMargin",
    "Contrastive",
    "CosFace",
    "DistanceContrastive",
    "DistanceWeighted",
    "EasyPositive",
    "GrowingMargin",
    "Library",
    "LiftedStructure",
    "MarginLoss",
    "Memory",
    "MultiSimilarity",
    "MultiSimilarityMiner",
    "NtXent",
    "ObjectiveSettings",
    "ProxyAnchor",
    "ProxyNca",
    "SemiHard",
    "SoftTriple",
    "Softmax",
    "Sum",
    "SupCon",
    "Triplet",
]

ObjectiveSettings = Term | Sum
"""What a stage may minimise: a class for each kind of objective, a file for each family."""
