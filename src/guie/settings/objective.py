"""What a stage minimises: all kinds of objectives. A recipe names one, or several in a `Sum`."""

from guie.settings.objectives.bier import Bier
from guie.settings.objectives.diva import Diva
from guie.settings.objectives.divide import DivideConquer, HierarchicalDivide
from guie.settings.objectives.graphs import ProxyGml
from guie.settings.objectives.group import GroupLoss
from guie.settings.objectives.keep import KeepCosines
from guie.settings.objectives.library import Library
from guie.settings.objectives.margins import ArcFace, ClassMargin, CosFace, GrowingMargin, Softmax
from guie.settings.objectives.memory import Memory
from guie.settings.objectives.message import MessagePassing
from guie.settings.objectives.mic import Mic
from guie.settings.objectives.miners import BatchHard, DistanceWeighted, EasyPositive, MultiSimilarityMiner, SemiHard
from guie.settings.objectives.pads import Pads
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
from guie.settings.objectives.regularisers import (
    KoLeo,
    RhoContrastive,
    RhoMargin,
    RhoTriplet,
    ThresholdConsistentMargin,
)
from guie.settings.objectives.sharing import SharingMatters
from guie.settings.objectives.spheres import SphereFace, SphereFaceR
from guie.settings.objectives.sums import Sum, Term

__all__ = [
    "ArcFace",
    "BatchHard",
    "Bier",
    "Circle",
    "ClassMargin",
    "Contrastive",
    "CosFace",
    "DistanceContrastive",
    "DistanceWeighted",
    "Diva",
    "DivideConquer",
    "EasyPositive",
    "GroupLoss",
    "GrowingMargin",
    "HierarchicalDivide",
    "KeepCosines",
    "KoLeo",
    "Library",
    "LiftedStructure",
    "MarginLoss",
    "Memory",
    "MessagePassing",
    "Mic",
    "MultiSimilarity",
    "MultiSimilarityMiner",
    "NtXent",
    "ObjectiveSettings",
    "Pads",
    "ProxyAnchor",
    "ProxyGml",
    "ProxyNca",
    "RhoContrastive",
    "RhoMargin",
    "RhoTriplet",
    "SemiHard",
    "SharingMatters",
    "SoftTriple",
    "Softmax",
    "SphereFace",
    "SphereFaceR",
    "Sum",
    "SupCon",
    "ThresholdConsistentMargin",
    "Triplet",
]

ObjectiveSettings = Term | Sum
