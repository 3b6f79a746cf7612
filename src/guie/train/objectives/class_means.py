"""Class centres and proxies that start at the means of their classes' embeddings."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from guie.train.objectives.base import Look

CHUNK = 4096  # embeddings at a time


@torch.no_grad()
def start_from_means(centers: Tensor, n_each: int, look: Look) -> None:
    """Points centres at the means of their classes' training images, as the model sees them now; see
    `point_at_means`."""
    items = np.arange(len(look.labels))
    chunks = np.split(items, range(CHUNK, len(items), CHUNK))
    embeddings = torch.cat([look.embeddings(chunk).cpu() for chunk in chunks])
    point_at_means(centers, n_each, embeddings.to(centers.device), torch.from_numpy(look.labels).to(centers.device))


@torch.no_grad()
def point_at_means(centers: Tensor, n_each: int, embeddings: Tensor, labels: Tensor) -> None:
    """Points each class' centres at the mean of its unit embeddings, in place; their mean length stays.

    Several centres of a class start beside that mean, apart from each other. Classes without an embedding stay as they
    are.

    Args:
        centers: float [n_classes * n_each, dim]; the centres of a class follow each other.
        n_each: Centres of each class.
        embeddings: float [n, dim], of any length.
        labels: int64 [n].

    Source: Qi et al., Low-shot learning with imprinted weights, CVPR 2018.
    """
    dim = centers.shape[1]
    n = len(centers) // n_each
    sums = torch.zeros(n, dim, device=embeddings.device).index_add_(0, labels, F.normalize(embeddings.float()))
    means, length = F.normalize(sums), centers.norm(dim=1).mean()
    apart = 0.1 * F.normalize(centers.view(n, n_each, dim), dim=2) * (n_each > 1)
    near = F.normalize(means[:, None] + apart, dim=2) * length
    is_seen = torch.bincount(labels, minlength=n) > 0
    centers.view(n, n_each, dim)[is_seen] = near[is_seen].to(centers.dtype)
