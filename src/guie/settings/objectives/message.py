"""The images of a batch decide together: message passing with attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from guie.settings.fields import within
from guie.settings.objectives.kind import Kind


@dataclass(frozen=True)
class MessagePassing(Kind):
    """Two classifiers: one of the embeddings, one of embeddings to which the other images of the batch have sent
    messages (a transformer over the batch, which does not know the labels). The second classifier is used in training
    only.

    Attributes:
        n_layers: Rounds of messages; published are 1 (CUB, SOP, In-Shop) and 2 (Cars).
        n_heads: Of the attention; must divide the neck's width. Published are 2 (CUB), 8 (Cars, SOP), 4 (In-Shop).
        temperature: Both classifiers' logits are divided by it; published are .2 (CUB), .111, .605, .186.
        label_smoothing: Share of the target that is spread over all classes.
        dropout: Share of the attention's weights that are dropped.
        graph_weight: Of the second classifier's loss; 1 as published.

    Source: Seidenschwarz et al., Learning intra-batch connections for deep metric learning, ICML 2021, arXiv
    2102.07753.
    """

    has_weights = True
    needs_positives = True

    n_layers: int = within(1, low=1, high=100)
    n_heads: int = within(2, low=1, high=1000)
    temperature: float = within(0.2, low=1e-3, high=1e3)
    label_smoothing: float = within(0.1, low=0.0, high=0.99)
    dropout: float = within(0.1, low=0.0, high=0.99)
    graph_weight: float = within(1.0, low=0.0, high=1e3)

    def state_shape(self) -> tuple[Any, ...]:
        """See `Kind`; heads cut the same weights in another way, which makes them other weights."""
        return (*super().state_shape(), self.n_layers, self.n_heads)
