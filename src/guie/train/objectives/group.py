"""Group Loss: images of a batch that resemble each other pass their class probabilities on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guie.settings.objectives.group import GroupLoss
from guie.train.objectives.base import Batch, Look, Objective
from guie.train.objectives.draws import generator_of
from guie.train.objectives.step_means import StepMeans, pair_cosines

SMALLEST = 1e-12  # under the logarithm, of a support, and of a variance


def anchors_per_class(labels: Tensor, n_anchors: int) -> Tensor:
    """How many rows of each row's class are anchors, int64 [n]: all but one at most, and the one row of a class.

    Args:
        labels: int64 [n].
        n_anchors: Wanted of each class.
    """
    n_rows = (labels[:, None] == labels).sum(dim=1)
    return (n_rows - 1).clamp_min(1).clamp_max(n_anchors)


def draw_anchors(labels: Tensor, n_anchors: int, generator: torch.Generator) -> Tensor:
    """Which rows are anchors, bool [n].

    Args:
        labels: int64 [n].
        n_anchors: Wanted of each class; see `anchors_per_class`.
        generator: On the device of the labels.
    """
    draws = torch.rand(len(labels), device=labels.device, generator=generator)
    rank_of_draw = torch.empty_like(labels)
    rank_of_draw[draws.argsort(stable=True)] = torch.arange(len(labels), device=labels.device)
    is_before = rank_of_draw < rank_of_draw[:, None]
    position = (is_before & (labels[:, None] == labels)).sum(dim=1)  # among the rows of the class
    return position < anchors_per_class(labels, n_anchors)


def correlation(rows: Tensor, has_self: bool = True) -> Tensor:
    """The Pearson correlation of each two rows, at least 0, float [n, n]; 0 for a row of equal numbers.

    Args:
        rows: float [n, width].
        has_self: The diagonal is 1; otherwise 0.
    """
    centred = rows - rows.mean(dim=1, keepdim=True)
    unit = centred * (centred.square().sum(dim=1, keepdim=True) + SMALLEST).rsqrt()
    similarity = (unit @ unit.T).relu()
    return similarity if has_self else similarity * (1 - torch.eye(len(rows), dtype=rows.dtype, device=rows.device))


def replicate(shares: Tensor, similarity: Tensor, n_iterations: int) -> Tensor:
    """Class probabilities after the replicator dynamics, float [n, n_classes]: x <- x * (W x), rows scaled to sum 1.

    A row whose neighbours support none of its classes keeps its probabilities.

    Args:
        shares: float [n, n_classes], rows sum to 1.
        similarity: float [n, n], W, not negative.
        n_iterations: Steps.
    """
    for _ in range(n_iterations):
        grown = shares * (similarity @ shares)
        totals = grown.sum(dim=1, keepdim=True)
        has_support = totals > SMALLEST
        shares = torch.where(has_support, grown / torch.where(has_support, totals, torch.ones_like(totals)), shares)
    return shares


def group_terms(
    logits: Tensor, similarity: Tensor, labels: Tensor, is_anchor: Tensor, temperature: float, n_iterations: int
) -> Tensor:
    """The mean cross entropy of the probabilities after the dynamics, a scalar. Anchors count in the mean, with 0.

    The gradient flows through the similarity and through all steps.

    Args:
        logits: float [n, n_classes].
        similarity: float [n, n].
        labels: int64 [n].
        is_anchor: bool [n], rows that hold their true class.
        temperature: Divides the logits.
        n_iterations: Steps of the dynamics.
    """
    true = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    start = torch.where(is_anchor[:, None], true, (logits / temperature).softmax(dim=1))
    end = replicate(start, similarity, n_iterations)
    return -(end.gather(1, labels[:, None]) + SMALLEST).log().mean()


class GroupObjective(Objective):
    """See `GroupLoss`."""

    def __init__(self, settings: GroupLoss, n_classes: int, dim: int, feature_dim: int) -> None:
        """A fresh linear classifier of the embeddings.

        Raises:
            ValueError: one class, or vectors of one number, whose correlation is undefined.
        """
        super().__init__()
        width = dim if settings.compares == "embeddings" else feature_dim
        if width < 2:
            raise ValueError(
                f"GroupLoss correlates {settings.compares}, and these have {width} number; "
                "take a larger neck.dim, or compares='features'"
            )
        if n_classes < 2:
            raise ValueError(f"GroupLoss classifies, and the training images have {n_classes} class; take more sources")
        self.settings = settings
        self.feature_dim = feature_dim
        self.classifier = nn.Linear(dim, n_classes)
        self.means = StepMeans(("active_share", "positive_cosine", "negative_cosine"))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`."""
        s = self.settings
        logits = self.classifier(batch.embeddings)
        features = batch.features[:, : self.feature_dim].to(batch.embeddings.dtype)  # without the image's size
        compared = batch.embeddings if s.compares == "embeddings" else features
        similarity = correlation(compared, s.has_self_similarity)
        is_anchor = draw_anchors(batch.labels, s.n_anchors, generator_of(batch, "GroupLoss"))
        return {
            "group": group_terms(logits, similarity, batch.labels, is_anchor, s.temperature, s.n_iterations),
            "cross_entropy": s.cross_entropy_weight * F.cross_entropy(logits, batch.labels),
        }

    @torch.no_grad()
    def after_step(self, batch: Batch, look: Look) -> None:
        """Counts the share of rows that are no anchors, whose term is not zero, and the cosines of pairs."""
        if batch.is_counted:
            n_rows = (batch.labels[:, None] == batch.labels).sum(dim=1)
            anchors = anchors_per_class(batch.labels, self.settings.n_anchors) / n_rows
            self.means.add({"active_share": 1 - anchors.mean(), **pair_cosines(batch.embeddings, batch.labels)})

    @torch.no_grad()
    def begin_epoch(self, epoch: int, look: Look) -> None:
        """Begins the epoch's means."""
        self.means.reset()

    def curves(self, epoch: int) -> dict[str, float]:
        """See `Objective`."""
        return self.means.values()
