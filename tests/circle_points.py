"""Points on the unit circle, for which losses can be computed by hand (facts/objectives.md, section 0)."""

import torch
from torch import Tensor

from guie.train.objectives.base import Batch


def on_circle(*degrees: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """Unit vectors, [n, 2]."""
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1).to(dtype)


F4 = (on_circle(0, 60, 90, 180), torch.tensor([0, 0, 1, 1]))
F5 = (on_circle(0, 60, 270, 90, 180), torch.tensor([0, 0, 0, 1, 1]))
G5 = (on_circle(0, 50, 115, 170, 260), torch.tensor([0, 0, 1, 1, 0]))  # no ties, three positives
P2 = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)  # two proxies
POINTS = {"F4": F4, "F5": F5, "G5": G5}


def random_points(n: int, dim: int, n_classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Vectors of different lengths, float64 [n, dim], and labels, int64 [n]."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, n_classes, (n,), generator=generator)
    return 3 * torch.randn(n, dim, generator=generator, dtype=torch.float64), labels


def batch_of(embeddings: Tensor, labels: Tensor, step: int = 0) -> Batch:
    """A batch of given embeddings, whose features are the same."""
    items = torch.arange(len(labels))
    return Batch(embeddings, embeddings, labels, items, torch.zeros_like(items), 0, step)
