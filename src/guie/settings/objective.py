"""What a stage minimises: all kinds of objectives. A recipe names one, or several in a `Sum`."""

from guie.settings.objectives.bier import Bier
from guie.settings.objectives.diva import Diva
from guie.settings.objectives.divide import DivideConquer, HierarchicalDivide
from guie.settings.objectives.margins import ArcFace, ClassMargin, CosFace, GrowingMargin, Softmax
from guie.settings.objectives.mic import Mic
from guie.settings.objectives.sharing import SharingMatters
from guie.settings.objectives.sums import Sum, Term

__all__ = [
    "ArcFace",
    "Bier",
    "ClassMargin",
    "CosFace",
    "Diva",
    "DivideConquer",
    "GrowingMargin",
    "HierarchicalDivide",
    "Mic",
    "ObjectiveSettings",
    "SharingMatters",
    "Softmax",
    "Sum",
]

ObjectiveSettings = Term | Sum
"""What a stage may minimise: a class for each kind of objective, a file for each family."""
