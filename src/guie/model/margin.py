"""The margin classifier: ArcFace with finite gradients everywhere, and its margin by epoch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guie.recipe import EpochMargin

# Closer to +-1 than this the cosine counts as constant: d(acos)/d(cos) is 707 here and infinite at 1, and fp32 puts the cosine
# of a vector with itself above 1 for a fifth of all vectors.
EPSILON = 1e-6


def margin_at(margin: EpochMargin, epoch: int) -> float:
    """The margin in radians of the epoch, counted from 0. Source: 2nd place of GUIE, arXiv 2210.08735."""
    return min(margin.start_rad + epoch * margin.step_rad, margin.max_rad)


def arcface_logits(embeddings: Tensor, centers: Tensor, labels: Tensor, margin_rad: float, scale: float) -> Tensor:
    """Scaled cosines, with the margin added to the angle of each row's own class.

    Where the angle exceeds pi - margin, cos(angle + margin) would grow again; there the cosine is lowered by
    margin * sin(margin) instead, as in the reference implementation.

    Args:
        embeddings: float [n, dim], of any length and precision; computed in float32 (float64 stays float64).
        centers: float [n_classes, dim], of any length.
        labels: int64 [n], 0 to n_classes - 1.
        margin_rad: Added to the angle, 0 to pi/2.
        scale: ArcFace's s.

    Returns:
        float32 (or float64) [n, n_classes].

    Source: ArcFace, arXiv 1801.07698, equation 3.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        wide = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
        cosine = F.linear(F.normalize(wide), F.normalize(centers.to(wide.dtype)))
        own = cosine.gather(1, labels[:, None]).clamp(-1 + EPSILON, 1 - EPSILON)
        shifted = own * math.cos(margin_rad) - (1 - own * own).sqrt() * math.sin(margin_rad)
        shifted = torch.where(own > math.cos(math.pi - margin_rad), shifted, own - margin_rad * math.sin(margin_rad))
        return scale * cosine.scatter(1, labels[:, None], shifted)


class ArcFace(nn.Module):
    """A classifier whose class centres are its weights; kept in float32 whatever the precision around it."""

    def __init__(self, n_classes: int, embedding_dim: int, scale: float) -> None:
        """Centres start as small normal noise; only their directions matter."""
        super().__init__()
        self.scale = scale
        self.centers = nn.Parameter(torch.randn(n_classes, embedding_dim) * 0.01)

    def forward(self, embeddings: Tensor, labels: Tensor, margin_rad: float) -> Tensor:
        """Logits, float32 [n, n_classes], of embeddings, float [n, embedding_dim]."""
        return arcface_logits(embeddings, self.centers, labels, margin_rad, self.scale)
