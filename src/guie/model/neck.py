"""The neck: the projection from the backbone's feature to the embedding."""

from __future__ import annotations

from torch import Tensor, nn


class Neck(nn.Module):
    """Dropout, then one linear layer. Source: 1st and 2nd place of GUIE (dropout .2, Linear 64)."""

    def __init__(self, feature_dim: int, embedding_dim: int, dropout: float) -> None:
        """`feature_dim` numbers in, `embedding_dim` out."""
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(feature_dim, embedding_dim)

    def forward(self, features: Tensor) -> Tensor:
        """Embeddings, not normalised, float [n, embedding_dim], of features, float [n, feature_dim]."""
        return self.linear(self.dropout(features))
