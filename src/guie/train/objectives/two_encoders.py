"""A second encoder beside the embedding, kept apart from it by an adversary, as in MIC and Sharing Matters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guie.settings.objectives.mic import Mic
from guie.settings.objectives.sharing import SharingMatters
from guie.train.objectives.base import Batch, Look, Objective
from guie.train.objectives.draws import Triplets, generator_of
from guie.train.objectives.margin_triplets import class_triplets, margin_loss
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
            generator: On their device.
        """
        raise NotImplementedError

    def second_weight(self) -> float:
        """Of the second encoder's loss."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`."""
        first, second = self._encoded(batch)
        (main, _), (other, _, _) = self._margin_losses(first, second, batch)
        return {
            "class": main,
            self.task: self.second_weight() * other,
            "decorrelation": self.settings.decorrelation_weight * self.adversary(first, second),
        }

    def _encoded(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The embeddings and those of the second encoder at length 1, float [n, dim] and [n, second_dim]."""
        features = batch.features[:, : self.second.in_features]  # without the image's size
        return F.normalize(batch.embeddings), F.normalize(self.second(features))

    def _margin_losses(
        self, first: Tensor, second: Tensor, batch: Batch
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor, float]]:
        """Of both encoders the margin loss and the share of pairs that have a part in it; of the second also the share
        of rows that are anchors."""
        margin, generator = self.settings.margin_distance, generator_of(batch, type(self.settings).__name__)
        own = margin_loss(first, class_triplets(first, batch.labels, generator), margin, self.betas[0])
        others = self.second_triplets(second, batch, generator)
        loss, share = margin_loss(second, others, margin, self.betas[1])
        return own, (loss, share, len(others.anchors) / len(batch.labels))

    @torch.no_grad()
    def after_step(self, batch: Batch, look: Look) -> None:
        """Counts shares and cosines."""
        if not batch.is_counted:
            return
        (_, share), (_, other_share, row_share) = self._margin_losses(*self._encoded(batch), batch)
        shares: dict[str, float | Tensor] = pair_cosines(batch.embeddings, batch.labels)
        shares |= {"active_share": share, f"{self.task}_active_share": other_share, f"{self.task}_row_share": row_share}
        self.means.add(shares)

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
