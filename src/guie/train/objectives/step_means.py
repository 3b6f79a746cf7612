"""Means over the steps of an epoch, which become columns of metrics.csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StepMeans(nn.Module):
    """Running means of named numbers. They are buffers, so that a stage that resumes within an epoch counts on."""

    sums: Tensor
    n: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        """Means of `names`, in this order; nothing is counted yet."""
        super().__init__()
        self.names = tuple(names)
        self.register_buffer("sums", torch.zeros(len(self.names), dtype=torch.float64))
        self.register_buffer("n", torch.zeros(len(self.names), dtype=torch.float64))

    @torch.no_grad()
    def add(self, values: Mapping[str, float | Tensor]) -> None:
        """Counts a step; names that it lacks and numbers that are NaN are not counted."""
        for i, name in enumerate(self.names):
            value = float(values.get(name, float("nan")))
            if value == value:
                self.sums[i] += value
                self.n[i] += 1

    @torch.no_grad()
    def reset(self) -> None:
        """Begins an epoch."""
        self.sums.zero_()
        self.n.zero_()

    def values(self) -> dict[str, float]:
        """The means of what was counted, rounded to six digits."""
        pairs = zip(self.names, self.sums.tolist(), self.n.tolist(), strict=True)
        return {name: round(total / n, 6) for name, total, n in pairs if n}


def pair_cosines(embeddings: Tensor, labels: Tensor) -> dict[str, float]:
    """Mean cosines of a batch's pairs: `positive_cosine` of one class, `negative_cosine` of two; NaN without a pair.

    Args:
        embeddings: float [n, dim], of any length.
        labels: int64 [n].
    """
    unit = F.normalize(embeddings.detach().float())
    cosines = unit @ unit.T
    is_same = labels[:, None] == labels
    is_other = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    means = {"positive_cosine": cosines[is_same & is_other].mean(), "negative_cosine": cosines[~is_same].mean()}
    return {name: float(value) for name, value in means.items()}
