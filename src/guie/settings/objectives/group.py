"""The images of a batch decide together: Group Loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from guie.settings.fields import within
from guie.settings.objectives.kind import Kind


@dataclass(frozen=True)
class GroupLoss(Kind):
    """Images that resemble each other pass their class probabilities on (replicator dynamics); anchors hold their true
    class.

    It is trained with the cross entropy of the probabilities before and after. Group Loss++ (Elezi et al., TPAMI 2022,
    arXiv 2204.01509) trains the same way; its additions apply at test time only (mirrored views, re-ranking, mixed
    lengths), see `Views` and `PostProcess`. Logits of all classes are held, [batch, n_classes].

    Attributes:
        temperature: The logits are divided by it before their softmax; published are 24 (CUB), 79 (Cars), 54 (SOP).
        n_anchors: Anchors of each class of a batch, drawn anew each step. Of a class with several rows at least one row
            is no anchor; the one row of a class is an anchor.
        n_iterations: Steps of the dynamics.
        cross_entropy_weight: Of the cross entropy of the logits themselves; 1 as published.
        compares: Similarity is the correlation of embeddings, or of the features that the neck takes. The released code
            has one layer, whose output is embedded and classified.
        has_self_similarity: A row keeps its similarity 1 with itself, as in the released code.

    Source: Elezi et al., The Group Loss for deep metric learning, ECCV 2020, arXiv 1912.00385.
    """

    has_weights = True
    needs_positives = True

    temperature: float = within(24.0, low=1e-3, high=1e4)
    n_anchors: int = within(2, low=0, high=10**4)
    n_iterations: int = within(1, low=1, high=100)
    cross_entropy_weight: float = within(1.0, low=0.0, high=1e3)
    compares: Literal["embeddings", "features"] = "embeddings"
    has_self_similarity: bool = True
