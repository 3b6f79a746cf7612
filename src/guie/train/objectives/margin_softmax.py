"""ArcFace, CosFace and normalised softmax as objectives: their centres, margins by epoch or class, and curves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from guie.settings.objectives.margins import ArcFace, ClassMargin, CosFace, GrowingMargin, MarginSettings, Softmax
from guie.train.objectives.base import Batch
from guie.train.objectives.centers import CenterObjective
from guie.train.objectives.margin import EPSILON, class_margins, margin_at, margin_cross_entropy, shifted_cosine


def margin_of(settings: MarginSettings) -> float | GrowingMargin | ClassMargin:
    """What the settings say of the margin, in radians or as a cosine; 0 without one."""
    if isinstance(settings, ArcFace):
        return settings.margin_rad
    return settings.margin_cosine if isinstance(settings, CosFace) else 0.0


class MarginSoftmax(CenterObjective):
    """ArcFace, CosFace and normalised softmax. The class centres are its weights, float32 whatever the precision around
    it.

    Attributes:
        centers: float32 [n_classes * n_sub_centers, dim]; the sub-centres of a class follow each other.
    """

    is_additive = True
    class_margins: Tensor

    def __init__(
        self, settings: MarginSettings, n_classes: int, dim: int, counts: Tensor, has_mean_centers: bool = False
    ) -> None:
        """Centres start as small normal noise; only their directions matter.

        Args:
            settings: ArcFace, CosFace or Softmax.
            n_classes: Classes of the training set.
            dim: Numbers of an embedding.
            counts: [n_classes], training rows of each class, for a margin by class.
            has_mean_centers: `begin_epoch(0)` points the centres at the means of their classes' embeddings.
        """
        columns = () if isinstance(settings, Softmax) else ("row_margin_rad",)
        super().__init__(settings.n_sub_centers, has_mean_centers, *columns)
        self.settings, self.kind = settings, type(settings).__name__.lower()
        self.centers = nn.Parameter(torch.randn(n_classes * settings.n_sub_centers, dim) * 0.01)
        margin = margin_of(settings)
        by_class = class_margins(margin, counts) if isinstance(margin, ClassMargin) else torch.empty(0)
        self.register_buffer("class_margins", by_class, persistent=False)

    def points(self) -> nn.Parameter:
        """See `CenterObjective`."""
        return self.centers

    def target(self, own: Tensor, batch: Batch) -> Tensor:
        """See `CenterObjective`."""
        return shifted_cosine(own, self._row_margins(batch), self.kind)[0]

    def margin_curves(self, own: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The mean angle by which the margin moves a row away from its centre, in radians."""
        before, after = (cosines.clamp(-1 + EPSILON, 1 - EPSILON).acos() for cosines in (own, target))
        return {"row_margin_rad": (after - before).mean()}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`."""
        s, own = self.settings, self._row_margins(batch)
        loss = margin_cross_entropy(
            batch.embeddings, self.centers, batch.labels, own, s.scale, self.kind, s.label_smoothing, s.n_sub_centers
        )
        return {"loss": loss}

    def rates(self) -> dict[str, float]:
        """See `Objective`."""
        return {"centers": self.settings.center_lr_factor}

    def curves(self, epoch: int) -> dict[str, float]:
        """The margin of the epoch, or the mean over the classes; see `CenterObjective` for the rest."""
        if isinstance(self.settings, ArcFace):
            name = "margin_rad"
        elif isinstance(self.settings, CosFace):
            name = "margin_cosine"
        else:
            return self.means.values()
        margin = self._margin(epoch)
        shown = round(float(self.class_margins.mean()), 6) if margin is None else margin
        return {name: shown, **self.means.values()}

    def _margin(self, epoch: int) -> float | None:
        """One margin for all classes, or None where each has its own."""
        margin = margin_of(self.settings)
        if isinstance(margin, ClassMargin):
            return None
        return margin_at(margin, epoch) if isinstance(margin, GrowingMargin) else margin

    def _row_margins(self, batch: Batch) -> float | Tensor:
        """The margin of all rows, or float [n] where each class has its own."""
        margin = self._margin(batch.epoch)
        return self.class_margins[batch.labels] if margin is None else margin
