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
    items = np.flatnonzero(look.labels < len(centers) // n_each)  # images without a label are of no class
    chunks = np.split(items, range(CHUNK, len(items), CHUNK))
    embeddings = torch.cat([look.embeddings(chunk).cpu() for chunk in chunks])
    point_at_means(centers, n_each, embeddings, torch.from_numpy(look.labels[items]))


@torch.no_grad()
def point_at_means(centers: Tensor, n_each: int, embeddings: Tensor, labels: Tensor) -> None:
    """Points each class' centres at the mean of its unit embeddings, in place; their mean length stays.

    Several centres of a class start near that mean, each moved a tenth of its length along its own random start. They
    are no means of clusters: these would need a k-means for each class, and many classes have fewer images than
    centres. Classes without an embedding stay as they are. The sums are made on the CPU, since a card adds in random
    order.

    Args:
        centers: float [n_classes * n_each, dim]; the centres of a class follow each other.
        n_each: Centres of each class.
        embeddings: float [n, dim], of any length, on the CPU.
        labels: int64 [n], on the CPU.

    Source: Qi et al., Low-shot learning with imprinted weights, CVPR 2018.
    """
    dim = centers.shape[1]
    n = len(centers) // n_each
    sums = torch.zeros(n, dim).index_add_(0, labels, F.normalize(embeddings.float()))
    start = centers.cpu().view(n, n_each, dim)
    means, length = F.normalize(sums), start.norm(dim=2).mean()
    apart = 0.1 * F.normalize(start, dim=2) * (n_each > 1)
    near = F.normalize(means[:, None] + apart, dim=2) * length
    is_seen = torch.bincount(labels, minlength=n) > 0
    start[is_seen] = near[is_seen].to(centers.dtype)
    centers.copy_(start.view_as(centers))
