"""BIER: the embedding's slices are learners that correct each other."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guie.settings.objectives.bier import Bier
from guie.train.objectives.base import Batch, Look, Objective
from guie.train.objectives.reversal import Decorrelation
from guie.train.objectives.step_means import StepMeans, pair_cosines


def learner_widths(dim: int, n_learners: int) -> list[int]:
    """The numbers of each learner: learner m of M has the share m / (1 + ... + M), its weight in the ensemble.

    Raises:
        ValueError: a learner would have a single number, whose cosine is always 1 or -1.
    """
    total = n_learners * (n_learners + 1)
    edges = [round(dim * m * (m + 1) / total) for m in range(n_learners + 1)]
    widths = [stop - start for start, stop in itertools.pairwise(edges)]
    if min(widths) < 2:
        raise ValueError(
            f"Bier: neck.dim {dim} gives {n_learners} learners {', '.join(map(str, widths))} numbers, and each needs "
            "at least 2; make neck.dim larger or n_learners smaller"
        )
    return widths


def boosted_loss(cosines: Tensor, is_positive: Tensor, settings: Bier) -> tuple[Tensor, Tensor]:
    """Each pair's loss, summed over the learners, float [n_pairs]; and each learner's weights, float [n_learners,
    n_pairs], without gradient.

    The first learner has weight 1. Learner m + 1 has the slope of the loss at the ensemble's cosine S_m, where S_m = (1
    - eta) S_(m-1) + eta s_m and eta = 2 / (m + 1).

    Args:
        cosines: float [n_learners, n_pairs], s.
        is_positive: bool [n_pairs], pairs of one class.
        settings: slope, threshold_cosine, negative_factor, has_bounded_weights.
    """
    steepness = settings.slope * torch.where(is_positive, 1.0, settings.negative_factor).to(cosines)
    signed = torch.where(is_positive, steepness, -steepness)
    losses = F.softplus(-signed * (cosines - settings.threshold_cosine))
    ensemble = torch.zeros_like(losses[0])
    weights = [torch.ones_like(losses[0])]
    for m, cosine in enumerate(cosines.detach()[:-1], start=1):
        eta = 2 / (m + 1)
        ensemble = (1 - eta) * ensemble + eta * cosine
        weight = torch.sigmoid(-signed * (ensemble - settings.threshold_cosine))
        weights.append(weight if settings.has_bounded_weights else steepness * weight)
    stacked = torch.stack(weights).detach()
    return (stacked * losses).sum(dim=0), stacked


class BoostedLearners(Objective):
    """See `Bier`."""

    def __init__(self, settings: Bier, dim: int) -> None:
        """An adversary for each pair of learners: it predicts the earlier from the later one.

        Args:
            settings: See `Bier`.
            dim: Numbers of an embedding.

        Raises:
            ValueError: the embedding is too narrow for so many learners.
        """
        super().__init__()
        self.settings, self.widths = settings, learner_widths(dim, settings.n_learners)
        pairs = itertools.combinations(range(settings.n_learners), 2) if settings.decorrelation_weight else ()
        self.adversaries = nn.ModuleDict(
            {f"{i}_{j}": Decorrelation(self.widths[j], self.widths[i], settings.regressor_dim) for i, j in pairs}
        )
        weights = [f"learner_weight_{m}" for m in range(1, settings.n_learners + 1)]
        self.means = StepMeans(("positive_cosine", "negative_cosine", *weights))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`. The means over the pairs of one class and of two classes are added."""
        learners = self._learners(batch)
        losses, _, is_positive = self._boosted(learners, batch)
        empty = batch.embeddings.sum() * 0
        kinds = (losses[is_positive], losses[~is_positive])
        terms = {"boosted": empty + sum(own.mean() for own in kinds if len(own))}
        if self.adversaries:
            found = [
                adversary(learners[int(i)], learners[int(j)])
                for (i, j), adversary in ((name.split("_"), module) for name, module in self.adversaries.items())
            ]
            terms["decorrelation"] = self.settings.decorrelation_weight * torch.stack(found).sum()
        return terms

    def _learners(self, batch: Batch) -> list[Tensor]:
        """The unit slices, float [n, width] each."""
        return [F.normalize(own) for own in batch.embeddings.split(self.widths, dim=1)]

    def _boosted(self, learners: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """`boosted_loss` of all pairs of the batch, and which pairs are of one class."""
        rows, others = torch.triu_indices(len(batch.labels), len(batch.labels), 1, device=batch.labels.device)
        cosines = torch.stack([(unit @ unit.T)[rows, others] for unit in learners])
        is_positive = batch.labels[rows] == batch.labels[others]
        return *boosted_loss(cosines, is_positive, self.settings), is_positive

    @torch.no_grad()
    def after_step(self, batch: Batch, look: Look) -> None:
        """Counts cosines of the whole embedding, and each learner's mean weight."""
        if batch.is_counted:
            _, weights, _ = self._boosted(self._learners(batch), batch)
            by_learner = {f"learner_weight_{m}": own.mean() for m, own in enumerate(weights, start=1)}
            self.means.add({**pair_cosines(batch.embeddings, batch.labels), **by_learner})

    @torch.no_grad()
    def begin_epoch(self, epoch: int, look: Look) -> None:
        """See `Objective`."""
        self.means.reset()

    def rates(self) -> dict[str, float]:
        """See `Objective`."""
        return {"adversaries": self.settings.regressor_lr_factor}

    def undecayed(self) -> tuple[str, ...]:
        """See `Objective`; an adversary's length changes nothing."""
        return ("adversaries",)

    def curves(self, epoch: int) -> dict[str, float]:
        """See `Objective`."""
        return self.means.values()
