"""Gradient reversal, and the adversary that keeps two embeddings apart (BIER, MIC, Sharing Matters, DiVA)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


def reverse_gradient(values: Tensor) -> Tensor:
    """The same numbers; the gradient that comes back through them changes its sign.

    Source: Ganin and Lempitsky, Unsupervised domain adaptation by backpropagation, ICML 2015.
    """
    reversed_values: Tensor = _Reversed.apply(values)
    return reversed_values


class Decorrelation(nn.Module):
    """An adversary that predicts one embedding from another. It learns to do so; the embeddings learn to prevent it.

    The loss is minus the similarity mean_i mean_k (t_ik u_ik)^2 of the unit target t and the unit prediction u. Its
    descent raises the similarity for the regressor. For both embeddings the gradient is reversed, and lowers it.

    Source: Opitz et al., arXiv 1801.04815; Milbich et al., arXiv 2004.13458.
    """

    def __init__(self, source_dim: int, target_dim: int, hidden_dim: int) -> None:
        """A regressor of two layers.

        Args:
            source_dim: Numbers of the embedding that it reads.
            target_dim: Numbers of the embedding that it predicts.
            hidden_dim: Width of its hidden layer.
        """
        super().__init__()
        self.regressor = nn.Sequential(nn.Linear(source_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, target_dim))

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Minus the similarity, a scalar from -1 to 0.

        Args:
            target: float [n, target_dim], of any length.
            source: float [n, source_dim]; its length matters, so it should be 1.
        """
        predicted = F.normalize(self.regressor(reverse_gradient(source)))
        return -(F.normalize(reverse_gradient(target)) * predicted).square().mean()
