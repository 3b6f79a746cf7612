"""What a stage minimises: all kinds of objectives. A recipe names one, or several in a `Sum`."""

from guie.settings.objectives.margins import ArcFace, ClassMargin, CosFace, GrowingMargin, Softmax
from guie.settings.objectives.sums import Sum, Term

__all__ = ["ArcFace", "ClassMargin", "CosFace", "GrowingMargin", "ObjectiveSettings", "Softmax", "Sum"]

ObjectiveSettings = Term | Sum
