"""SphereFace, where an embedding's length is its scale, and SphereFace-R with a fixed one."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guie.settings.objectives.spheres import SphereFace, SphereFaceR, SphereSettings
from guie.train.objectives.base import Batch
from guie.train.objectives.centers import CenterObjective

EPSILON = 1e-6  # closer to +-1 than this the cosine counts as constant where its angle is differentiated


def falling_cosine(cosine: Tensor, factor: int) -> Tensor:
    """psi: cos(factor * angle), continued so that it falls over the whole half turn, from 1 to 1 - 2 * factor.

    The polynomial in the cosine has a finite slope at +-1. Which branch an angle is on is constant for the gradient.

    Source: Liu et al., arXiv 1704.08063, equation 7: (-1)^k cos(m angle) - 2k for angles from k pi / m to (k + 1) pi /
    m.
    """
    before, multiple = torch.ones_like(cosine), cosine
    for _ in range(factor - 1):
        before, multiple = multiple, 2 * cosine * multiple - before
    with torch.no_grad():
        angle = cosine.clamp(-1, 1).acos()
        branch = (factor * angle / math.pi).floor().clamp_max(factor - 1)
    return (1 - 2 * (branch % 2)) * multiple - 2 * branch


def widened_cosine(cosine: Tensor, factor: float) -> Tensor:
    """cos(factor * angle), and -1 from the angle pi / factor on, where the slope is 0."""
    angle = cosine.clamp(-1 + EPSILON, 1 - EPSILON).acos()
    return (factor * angle).clamp_max(math.pi).cos()


def plain_weight_at(settings: SphereFace, step: int) -> float:
    """The weight of the plain cosine at a step of the stage, counted from 0."""
    return max(settings.plain_weight_end, settings.plain_weight_start / (1 + settings.plain_weight_decay * step))


class SphereFaceSoftmax(CenterObjective):
    """See `SphereFace` and `SphereFaceR`. The [batch, n_classes] logits are held in memory.

    Attributes:
        centers: float32 [n_classes, dim]; only their directions matter.
    """

    is_additive = True

    def __init__(self, settings: SphereSettings, n_classes: int, dim: int, has_mean_centers: bool = False) -> None:
        """Centres start as small normal noise.

        Args:
            settings: SphereFace or SphereFaceR.
            n_classes: Classes of the training set.
            dim: Numbers of an embedding.
            has_mean_centers: `begin_epoch(0)` points the centres at the means of their classes' embeddings.
        """
        super().__init__(1, has_mean_centers)
        self.settings = settings
        self.centers = nn.Parameter(torch.randn(n_classes, dim) * 0.01)

    def points(self) -> nn.Parameter:
        """See `CenterObjective`."""
        return self.centers

    def target(self, own: Tensor, batch: Batch) -> Tensor:
        """See `CenterObjective`; SphereFace's own cosine falls below -1."""
        s = self.settings
        if isinstance(s, SphereFaceR):
            return widened_cosine(own, s.angle_factor)
        weight = plain_weight_at(s, batch.step)
        return (weight * own + falling_cosine(own, s.angle_factor)) / (1 + weight)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`."""
        s, embeddings = self.settings, batch.embeddings
        cosines = F.normalize(embeddings) @ F.normalize(self.centers.to(embeddings.dtype)).T
        target = self.target(cosines.gather(1, batch.labels[:, None]), batch)
        scale = s.scale if isinstance(s, SphereFaceR) else embeddings.norm(dim=1, keepdim=True)
        logits = scale * cosines.scatter(1, batch.labels[:, None], target)
        return {"loss": F.cross_entropy(logits, batch.labels)}

    def rates(self) -> dict[str, float]:
        """See `Objective`."""
        return {"centers": self.settings.center_lr_factor}
