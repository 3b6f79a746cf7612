"""One positive and one negative for each anchor, and R-margin, R-triplet and R-contrastive, which turn some round."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guie.settings.objectives.regularisers import RhoMargin, RhoSettings, RhoTriplet
from guie.train.objectives.base import Batch, Look, Objective
from guie.train.objectives.step_means import StepMeans, pair_cosines


@dataclass(frozen=True)
class Tuples:
    """Rows of a batch, int64 [n] each."""

    anchors: Tensor
    positives: Tensor
    negatives: Tensor


def distances(one: Tensor, other: Tensor) -> Tensor:
    """Euclidean distances of rows, [n]; where two are equal the gradient is 0, not NaN."""
    squared = (one - other).square().sum(dim=1)
    is_apart = squared > 0
    return squared.where(is_apart, 1.0).sqrt().where(is_apart, 0.0)


def log_inverse_density(of: Tensor, dim: int) -> Tensor:
    """-log of the density of distances between random points of the unit sphere in `dim` dimensions, but for a
    constant.

    Source: Wu et al., Sampling matters in deep embedding learning, ICCV 2017, arXiv 1706.07567.
    """
    return (2 - dim) * of.log() - (dim - 3) / 2 * (1 - of.square() / 4).log()


@torch.no_grad()
def draw_tuples(unit: Tensor, labels: Tensor, settings: RhoSettings) -> Tuples:
    """A tuple for each row that can have one, drawn with torch's generator.

    With probability `flip_share` the positive is the anchor itself and the negative another row of its class.
    Otherwise the positive is another row of its class. The negative is of another class, drawn with weight one over the
    density of its distance, so that all distances are equally frequent. Rows without a positive have no tuple, nor have
    those that are not turned round and lack a negative.

    Args:
        unit: float [n, dim], rows of length one.
        labels: int64 [n].
        settings: How often tuples are turned round, and which distances count as equal.
    """
    is_same = labels[:, None] == labels
    is_positive = is_same.clone().fill_diagonal_(False)
    is_flipped = torch.rand(len(labels), device=unit.device) < settings.flip_share
    has_negative = is_flipped | ~is_same.all(dim=1)
    anchors = (is_positive.any(dim=1) & has_negative).nonzero()[:, 0]
    if not len(anchors):
        return Tuples(anchors, anchors, anchors)
    is_flipped, is_positive = is_flipped[anchors], is_positive[anchors].double()
    apart = (2 - 2 * unit[anchors] @ unit.T).clamp_min(0).sqrt().double()
    logs = log_inverse_density(apart.clamp(settings.nearest_distance, settings.farthest_distance), unit.shape[1])
    far_weights = logs.masked_fill(is_same[anchors], -torch.inf).softmax(dim=1)  # NaN without a negative
    positives = torch.multinomial(is_positive, 1)[:, 0].where(~is_flipped, anchors)
    negatives = torch.multinomial(is_positive.where(is_flipped[:, None], far_weights), 1)[:, 0]
    return Tuples(anchors, positives, negatives)


class RhoTuples(Objective):
    """See `RhoMargin`, `RhoTriplet` and `RhoContrastive`.

    R-margin divides by the number of terms that cost something, the others by the number of tuples.

    Attributes:
        beta_distance: Learned thresholds, float32 [1] or [n_classes]; of R-margin alone.
    """

    def __init__(self, settings: RhoSettings, n_classes: int) -> None:
        """An objective for `n_classes` classes."""
        super().__init__()
        self.settings = settings
        self.means = StepMeans(("active_share", "positive_cosine", "negative_cosine"))
        if isinstance(settings, RhoMargin):
            n = n_classes if settings.has_class_beta else 1
            self.beta_distance = nn.Parameter(torch.full((n,), float(settings.beta_distance)))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`; the tuples are drawn anew."""
        costs = self._costs(batch)
        if isinstance(self.settings, RhoMargin):
            return {"loss": costs.sum() / (costs > 0).sum().clamp_min(1)}
        return {"loss": costs.sum() / max(1, len(costs))}

    def _costs(self, batch: Batch) -> Tensor:
        """What each drawn tuple costs: [n, 1], or [n, 2] for its positive and its negative."""
        s, unit = self.settings, F.normalize(batch.embeddings)
        drawn = draw_tuples(unit.detach(), batch.labels, s)
        near = distances(unit[drawn.anchors], unit[drawn.positives])
        far = distances(unit[drawn.anchors], unit[drawn.negatives])
        if isinstance(s, RhoTriplet):
            return F.relu(near - far + s.margin_distance)[:, None]
        if isinstance(s, RhoMargin):
            beta = self.beta_distance[batch.labels[drawn.anchors]] if s.has_class_beta else self.beta_distance
            return torch.stack([F.relu(s.margin_distance + near - beta), F.relu(s.margin_distance + beta - far)], 1)
        return torch.stack([F.relu(near - s.positive_margin_distance), F.relu(s.negative_margin_distance - far)], dim=1)

    @torch.no_grad()
    def after_step(self, batch: Batch, look: Look) -> None:
        """Counts how many tuples cost something, of tuples that are drawn for it."""
        is_active = (self._costs(batch) > 0).any(dim=1)
        self.means.add(
            pair_cosines(batch.embeddings, batch.labels) | {"active_share": float(is_active.double().mean())}
        )

    @torch.no_grad()
    def begin_epoch(self, epoch: int, look: Look) -> None:
        """See `Objective`."""
        self.means.reset()

    def rates(self) -> dict[str, float]:
        """See `Objective`; thresholds of distances learn faster than weights."""
        return {"beta_distance": self.settings.beta_lr_factor} if isinstance(self.settings, RhoMargin) else {}

    def undecayed(self) -> tuple[str, ...]:
        """See `Objective`."""
        return ("beta_distance",)

    def curves(self, epoch: int) -> dict[str, float]:
        """The share of tuples that cost something, cosines within the batch, and the mean learned threshold."""
        found = self.means.values()
        if isinstance(self.settings, RhoMargin):
            found["beta_distance"] = round(float(self.beta_distance.detach().mean()), 6)
        return found
