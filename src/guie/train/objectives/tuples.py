"""One positive and one negative for each anchor, and R-margin, R-triplet and R-contrastive, which flip some."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guie.settings.objectives.regularisers import RhoMargin, RhoSettings, RhoTriplet
from guie.train.objectives.base import Batch, Look, Objective
from guie.train.objectives.distances import log_inverse_density, row_distances, unit_distances
from guie.train.objectives.draws import Triplets, draw, draw_equally, generator_of, mates, triplet_of_each
from guie.train.objectives.step_means import StepMeans, pair_cosines


@torch.no_grad()
def draw_tuples(unit: Tensor, labels: Tensor, settings: RhoSettings, generator: torch.Generator) -> Triplets:
    """A tuple for each row that can have one.

    With probability `flip_share` the positive is the anchor itself and the negative another row of its class.
    Otherwise the positive is another row of its class. The negative is of another class, drawn with weight one over the
    density of its distance, so that all distances are equally frequent. Rows without a positive have no tuple, nor have
    those that are not flipped and lack a negative.

    Args:
        unit: float [n, dim], rows of length one.
        labels: int64 [n].
        settings: How often tuples are flipped, and which distances count as equal.
        generator: On their device.
    """
    rows = torch.arange(len(labels), device=labels.device)[:, None]
    is_flipped = torch.rand(len(labels), 1, device=unit.device, generator=generator) < settings.flip_share
    found = draw_equally(mates(labels), generator)  # the positive, or the negative where the tuple is flipped
    distances = unit_distances(unit, unit)
    weights = log_inverse_density(distances, unit.shape[1], settings.nearest_distance, settings.farthest_distance)
    far = draw(weights, labels[:, None] != labels, generator)
    return triplet_of_each(found.where(~is_flipped, rows), far.where(~is_flipped, found))


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
        """See `Objective`."""
        costs = self._costs(batch)
        if isinstance(self.settings, RhoMargin):
            return {"loss": costs.sum() / (costs > 0).sum().clamp_min(1)}
        return {"loss": costs.sum() / max(1, len(costs))}

    def _costs(self, batch: Batch) -> Tensor:
        """What each drawn tuple costs: [n, 1], or [n, 2] for its positive and its negative."""
        s, unit = self.settings, F.normalize(batch.embeddings)
        drawn = draw_tuples(unit.detach(), batch.labels, s, generator_of(batch, type(s).__name__))
        near = row_distances(unit[drawn.anchors], unit[drawn.positives])
        far = row_distances(unit[drawn.anchors], unit[drawn.negatives])
        if isinstance(s, RhoTriplet):
            return F.relu(near - far + s.margin_distance)[:, None]
        if isinstance(s, RhoMargin):
            beta = self.beta_distance[batch.labels[drawn.anchors]] if s.has_class_beta else self.beta_distance
            return torch.stack([F.relu(s.margin_distance + near - beta), F.relu(s.margin_distance + beta - far)], 1)
        return torch.stack([F.relu(near - s.positive_margin_distance), F.relu(s.negative_margin_distance - far)], dim=1)

    @torch.no_grad()
    def after_step(self, batch: Batch, look: Look) -> None:
        """Counts how many tuples cost something."""
        if batch.is_counted:
            active_share = (self._costs(batch) > 0).any(dim=1).double().mean()
            self.means.add({"active_share": active_share, **pair_cosines(batch.embeddings, batch.labels)})

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
