"""Batches of an objective, made of embeddings and labels alone."""

from typing import cast

import torch
from torch import Tensor

from guie.train.objectives.base import Batch, Look

NO_LOOK = cast(Look, None)  # of objectives that ask for nothing


def batch_of(
    embeddings: Tensor, labels: Tensor, step: int = 0, items: Tensor | None = None, features: Tensor | None = None
) -> Batch:
    """If nothing else is given, the embeddings are the features, too, and item i is row i."""
    items = torch.arange(len(labels)) if items is None else items
    return Batch(
        embeddings if features is None else features, embeddings, labels, items, torch.zeros_like(items), 0, step
    )


def drawn(n: int, dim: int, n_classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """float64 [n, dim] of any length, and classes at random."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    return embeddings, torch.randint(n_classes, (n,), generator=generator)
