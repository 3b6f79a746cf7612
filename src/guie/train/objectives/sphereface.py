"""SphereFace, where an embedding's length is its scale, and SphereFace-R with a fixed one."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guie.settings.objectives.spheres import SphereFace, SphereFaceR, SphereSettings
from guie.train.objectives.base import Batch, Look, Objective
from guie.train.objectives.class_means import start_from_means

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


class SphereFaceSoftmax(Objective):
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
        super().__init__()
        self.settings, self.has_mean_centers = settings, has_mean_centers
        self.centers = nn.Parameter(torch.randn(n_classes, dim) * 0.01)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`."""
        s, embeddings = self.settings, batch.embeddings
        cosines = F.normalize(embeddings) @ F.normalize(self.centers.to(embeddings.dtype)).T
        own = cosines.gather(1, batch.labels[:, None])
        if isinstance(s, SphereFaceR):
            logits = s.scale * cosines.scatter(1, batch.labels[:, None], widened_cosine(own, s.angle_factor))
        else:
            weight = plain_weight_at(s, batch.step)
            shifted = (weight * own + falling_cosine(own, s.angle_factor)) / (1 + weight)
            lengths = embeddings.norm(dim=1, keepdim=True)
            logits = lengths * cosines.scatter(1, batch.labels[:, None], shifted)
        return {"loss": F.cross_entropy(logits, batch.labels)}

    @torch.no_grad()
    def begin_epoch(self, epoch: int, look: Look) -> None:
        """Points the centres at their classes' means before the first epoch, if asked to."""
        if epoch == 0 and self.has_mean_centers:
            start_from_means(self.centers, 1, look)

    def undecayed(self) -> tuple[str, ...]:
        """See `Objective`."""
        return ("centers",)
