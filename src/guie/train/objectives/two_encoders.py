"""A second encoder beside the embedding, kept apart from it by an adversary, as in MIC and Sharing Matters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guie.settings.objectives.mic import Mic
from guie.settings.objectives.sharing import SharingMatters
from guie.train.objectives.base import Batch, Look, Objective
from guie.train.objectives.margin_triplets import Triplets, class_triplets, generator_of, margin_loss
from guie.train.objectives.reversal import Decorrelation
from guie.train.objectives.step_means import StepMeans, pair_cosines


class TwoEncoders(Objective):
    """The margin loss of the embedding with classes, and of a second encoder with triplets of its own.

    Attributes:
        second: The second encoder, of the backbone's feature.
        betas: float [2], the distance that separates pairs, of the embedding and of the second encoder.
        adversary: Predicts the embedding from the second encoder.
    """

    task = ""  # of the second encoder: the name of its term and of its curves

    def __init__(self, settings: Mic | SharingMatters, dim: int, feature_dim: int, second_dim: int) -> None:
        """A second encoder of one linear layer.

        Args:
            settings: Margin, betas, adversary.
            dim: Numbers of an embedding.
            feature_dim: Numbers of a feature.
            second_dim: Numbers of the second encoder's embedding.
        """
        super().__init__()
        self.settings = settings
        self.second = nn.Linear(feature_dim, second_dim)
        self.betas = nn.Parameter(torch.full((2,), float(settings.beta_distance)))
        self.adversary = Decorrelation(second_dim, dim, settings.regressor_dim)
        names = ("active_share", f"{self.task}_active_share", f"{self.task}_row_share")
        self.means = StepMeans((*names, "positive_cosine", "negative_cosine"))

    def second_triplets(self, unit: Tensor, batch: Batch, generator: torch.Generator) -> Triplets:
        """What the second encoder learns from.

        Args:
            unit: float [n, second_dim], its embeddings at length 1.
            batch: Its labels and items.
            generator: Of the CPU.
        """
        raise NotImplementedError

    def second_weight(self) -> float:
        """Of the second encoder's loss."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`."""
        return self._terms(batch)[0]

    def _terms(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, float | Tensor]]:
        """The terms, and numbers to plot."""
        s, generator = self.settings, generator_of(batch)
        first = F.normalize(batch.embeddings)
        second = F.normalize(self.second(batch.features[:, : self.second.in_features]))  # without the image's size
        triplets = class_triplets(first, batch.labels, generator)
        main, share = margin_loss(first, triplets, s.margin_distance, self.betas[0])
        others = self.second_triplets(second, batch, generator)
        other, other_share = margin_loss(second, others, s.margin_distance, self.betas[1])
        terms = {
            "class": main,
            self.task: self.second_weight() * other,
            "decorrelation": s.decorrelation_weight * self.adversary(first, second),
        }
        row_share = len(others.anchors) / len(batch.labels)
        shares: dict[str, float | Tensor] = {"active_share": share, f"{self.task}_active_share": other_share}
        return terms, shares | {f"{self.task}_row_share": row_share}

    @torch.no_grad()
    def after_step(self, batch: Batch, look: Look) -> None:
        """Counts shares and cosines."""
        self.means.add(self._terms(batch)[1] | pair_cosines(batch.embeddings, batch.labels))

    @torch.no_grad()
    def begin_epoch(self, epoch: int, look: Look) -> None:
        """See `Objective`."""
        self.means.reset()

    def rates(self) -> dict[str, float]:
        """See `Objective`."""
        return {"betas": self.settings.beta_lr_factor, "adversary": self.settings.regressor_lr_factor}

    def undecayed(self) -> tuple[str, ...]:
        """See `Objective`; the lengths of the adversary and of the second encoder change nothing."""
        return ("betas", "adversary", "second")

    def curves(self, epoch: int) -> dict[str, float]:
        """See `Objective`."""
        first, second = (round(beta, 6) for beta in self.betas.tolist())
        return {"beta_distance": first, f"{self.task}_beta_distance": second} | self.means.values()
