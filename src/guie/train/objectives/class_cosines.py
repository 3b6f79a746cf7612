"""Cosines of a batch to the class centres or proxies of its own and of other classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 1 << 22  # cosines at a time: 16 MB in float32


@torch.no_grad()
def class_cosines(embeddings: Tensor, centers: Tensor, labels: Tensor, n_each: int = 1) -> tuple[Tensor, Tensor]:
    """Each row's cosine to the nearest centre of its class and to the nearest of another class, float [n] both.

    The [n, n_classes] cosines are computed in blocks.

    Args:
        embeddings: float [n, dim], of any length.
        centers: float [n_classes * n_each, dim], of any length; the centres of a class follow each other.
        labels: int64 [n].
        n_each: Centres of a class.

    Returns:
        In the precision of the embeddings; the second is NaN where there is one class.
    """
    unit = F.normalize(embeddings)
    by_class = centers.unflatten(0, (-1, n_each))
    own = torch.einsum("nd,nkd->nk", unit, F.normalize(by_class[labels].to(unit.dtype), dim=2)).amax(dim=1)
    nearest = torch.full_like(own, -torch.inf)
    step = max(1, BLOCK // max(1, len(unit) * n_each))
    for start in range(0, len(by_class), step):
        block = F.normalize(by_class[start : start + step].to(unit.dtype), dim=2)
        cosines = torch.einsum("nd,ckd->nck", unit, block).amax(dim=2)
        columns = torch.arange(start, start + len(block), device=labels.device)
        nearest = torch.maximum(nearest, cosines.masked_fill(columns == labels[:, None], -torch.inf).amax(dim=1))
    return own, nearest.where(nearest.isfinite(), torch.nan)
