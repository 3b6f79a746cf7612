"""Means over counted steps of an epoch, which become columns of metrics.csv."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guie.train.objectives.draws import mates

COUNTED_EVERY = 10  # steps: counting costs about as much as the loss itself


def is_counted(step: int, n_steps: int) -> bool:
    """Whether a step is counted in the curves: the first of each epoch and every tenth after it, and each step of an
    epoch of ten or fewer.

    Args:
        step: Of the epoch, counted from 0.
        n_steps: Of the epoch.
    """
    return n_steps <= COUNTED_EVERY or step % COUNTED_EVERY == 0


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
        """Counts a step; names that it lacks and numbers that are NaN are not counted.

        Tensors stay on their device, so that a card is not waited for.
        """
        given = [values.get(name, math.nan) for name in self.names]
        device = self.sums.device
        numbers = torch.stack([torch.as_tensor(value, dtype=torch.float64, device=device) for value in given])
        is_known = ~numbers.isnan()
        self.sums += numbers.where(is_known, 0.0)
        self.n += is_known

    @torch.no_grad()
    def reset(self) -> None:
        """Begins an epoch."""
        self.sums.zero_()
        self.n.zero_()

    def values(self) -> dict[str, float]:
        """The means of what was counted, rounded to six digits."""
        pairs = zip(self.names, self.sums.tolist(), self.n.tolist(), strict=True)
        return {name: round(total / n, 6) for name, total, n in pairs if n}


def pair_cosines(embeddings: Tensor, labels: Tensor) -> dict[str, float | Tensor]:
    """Mean cosines of a batch's pairs: `positive_cosine` of one class, `negative_cosine` of two, float32 scalars; NaN
    without a pair.

    Args:
        embeddings: float [n, dim], of any length.
        labels: int64 [n].
    """
    unit = F.normalize(embeddings.detach().float())
    cosines = unit @ unit.T
    return {
        "positive_cosine": _mean_where(cosines, mates(labels)),
        "negative_cosine": _mean_where(cosines, labels[:, None] != labels),
    }


def _mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of the values under a mask, NaN where it is empty. Indexing with the mask would wait for a card."""
    return values.where(mask, 0.0).sum() / mask.sum()
