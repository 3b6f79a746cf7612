"""What a stage minimises: all kinds of objectives. A recipe names one, or several in a `Sum`."""

from guie.settings.objectives.group import GroupLoss
from guie.settings.objectives.margins import ArcFace, ClassMargin, CosFace, GrowingMargin, Softmax
from guie.settings.objectives.message import MessagePassing
from guie.settings.objectives.pads import Pads
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
]

ObjectiveSettings = Term | Sum
