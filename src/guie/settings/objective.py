"""What a stage minimises: all kinds of objectives. A recipe names one, or several in a `Sum`."""

from guie.settings.objectives.group import GroupLoss
from guie.settings.objectives.margins import ArcFace, ClassMargin, CosFace, GrowingMargin, Softmax
from guie.settings.objectives.message import MessagePassing
from guie.settings.objectives.pads import Pads
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
    "ClassMargin",
    "CosFace",
    "GroupLoss",
    "GrowingMargin",
    "MessagePassing",
    "ObjectiveSettings",
    "Pads",
    "Softmax",
    "Sum",
    "KoLeo",
    "Memory",
    "ProxyGml",
    "RhoContrastive",
    "RhoMargin",
    "RhoTriplet",
    "SphereFace",
    "SphereFaceR",
    "ThresholdConsistentMargin",
    "BatchHard",
    "Circle",
    "Contrastive",
    "DistanceContrastive",
    "DistanceWeighted",
    "EasyPositive",
    "Library",
    "LiftedStructure",
    "MarginLoss",
    "MultiSimilarity",
    "MultiSimilarityMiner",
    "NtXent",
    "ProxyAnchor",
    "ProxyNca",
    "SemiHard",
    "SoftTriple",
    "SupCon",
    "Triplet",
]

ObjectiveSettings = Term | Sum
"""What a stage may minimise: a class for each kind of objective, a file for each family."""
