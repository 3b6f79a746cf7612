"""Message passing: the images of a batch send each other messages before a second classifier sees them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guie.settings.objectives.message import MessagePassing
from guie.train.objectives.base import Batch, Look, Objective
from guie.train.objectives.step_means import StepMeans, pair_cosines

WIDENING = 4  # the perceptron's hidden layer, as a multiple of the embedding


class Attention(nn.Module):
    """Every row asks all rows, itself included: softmax(q k / sqrt(width of a head)) v, heads side by side."""

    def __init__(self, dim: int, n_heads: int, dropout: float) -> None:
        """`n_heads` must divide `dim`."""
        super().__init__()
        self.n_heads, self.dropout = n_heads, dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)  # a bias adds the same to all scores of a row: softmax removes it
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, rows: Tensor) -> Tensor:
        """The messages that each row gets, float [n, dim], of float [n, dim]."""
        asked, keys, values = (
            layer(rows).unflatten(1, (self.n_heads, -1)).transpose(0, 1)  # [n_heads, n, width of a head]
            for layer in (self.query, self.key, self.value)
        )
        weights = (asked @ keys.transpose(1, 2) / math.sqrt(keys.shape[2])).softmax(dim=2)
        heard = F.dropout(weights, self.dropout, self.training) @ values
        message: Tensor = self.out(heard.transpose(0, 1).flatten(1))
        return message


class Round(nn.Module):
    """One round of messages: attention, then a perceptron, each added to its input and normalised by row."""

    def __init__(self, dim: int, n_heads: int, dropout: float, is_last: bool) -> None:
        """The last round's second norm has no weights: the batch norm behind it would undo them."""
        super().__init__()
        self.attention = Attention(dim, n_heads, dropout)
        self.first_norm = nn.LayerNorm(dim)
        self.perceptron = nn.Sequential(nn.Linear(dim, WIDENING * dim), nn.ReLU(), nn.Linear(WIDENING * dim, dim))
        self.second_norm = nn.LayerNorm(dim, elementwise_affine=not is_last)

    def forward(self, rows: Tensor) -> Tensor:
        """float [n, dim] of float [n, dim]."""
        heard = self.first_norm(rows + self.attention(rows))
        out: Tensor = self.second_norm(heard + self.perceptron(heard))
        return out


class MessageObjective(Objective):
    """See `MessagePassing`.

    Attributes:
        scale: float [dim], of the batch norm before the second classifier. The norm takes its statistics from the batch
            alone, since nothing of it is used after training, and has no bias (as in the released code).
    """

    def __init__(self, settings: MessagePassing, n_classes: int, dim: int) -> None:
        """Fresh rounds and classifiers.

        Raises:
            ValueError: the heads do not divide an embedding, or there is one class.
        """
        super().__init__()
        if dim % settings.n_heads:
            raise ValueError(
                f"MessagePassing has n_heads {settings.n_heads}, which must divide the neck's dim {dim}; change one"
            )
        if n_classes < 2:
            raise ValueError(
                f"MessagePassing classifies, and the training images have {n_classes} class; take more sources"
            )
        self.settings = settings
        self.rounds = nn.Sequential(
            *(
                Round(dim, settings.n_heads, settings.dropout, i == settings.n_layers - 1)
                for i in range(settings.n_layers)
            )
        )
        self.scale = nn.Parameter(torch.ones(dim))
        self.trunk_classifier = nn.Linear(dim, n_classes, bias=False)
        self.graph_classifier = nn.Linear(dim, n_classes, bias=False)
        self.means = StepMeans(("positive_cosine", "negative_cosine"))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`; both terms are 0 for a batch of one row, to which no other sends messages."""
        if len(batch.labels) < 2:
            nothing = batch.embeddings.sum() * 0.0
            return {"trunk": nothing, "graph": nothing}
        s = self.settings
        passed = self.rounds(F.normalize(batch.embeddings))
        normed = F.batch_norm(passed, None, None, weight=self.scale, training=True)
        losses = [
            F.cross_entropy(logits / s.temperature, batch.labels, label_smoothing=s.label_smoothing)
            for logits in (self.trunk_classifier(batch.embeddings), self.graph_classifier(normed))
        ]
        return {"trunk": losses[0], "graph": s.graph_weight * losses[1]}

    @torch.no_grad()
    def after_step(self, batch: Batch, look: Look) -> None:
        """Counts the cosines of pairs."""
        if batch.is_counted:
            self.means.add(pair_cosines(batch.embeddings, batch.labels))

    @torch.no_grad()
    def begin_epoch(self, epoch: int, look: Look) -> None:
        """Begins the epoch's means."""
        self.means.reset()

    def curves(self, epoch: int) -> dict[str, float]:
        """See `Objective`."""
        return self.means.values()
