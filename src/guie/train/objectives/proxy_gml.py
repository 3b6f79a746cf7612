"""ProxyGML: labels spread from proxies to rows over a graph of the most similar ones."""

from __future__ import annotations

import logging
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guie.settings.objectives.graphs import ProxyGml
from guie.train.objectives.base import Batch
from guie.train.objectives.centers import CenterObjective, check_classes

log = logging.getLogger(__name__)
MOST_LOGITS = 10**9  # of the proxies' term: 4 GB, and its backward pass holds several copies


def spread_labels(similarities: Tensor, labels: Tensor, n_each: int, n_joined: int) -> Tensor:
    """Each row's logits: the sum of its similarities to those proxies of a class that it is joined to.

    A row is joined to its own class' proxies first, then to the most similar others. A class is left out where none of
    its proxies is joined, whatever the sums are: a cosine of exactly 0 counts as joined.

    Args:
        similarities: float [n, n_classes * n_each]; the proxies of a class follow each other.
        labels: int64 [n].
        n_each: Proxies of a class.
        n_joined: Proxies that a row is joined to, at least `n_each`.

    Returns:
        [n, n_classes], -inf for classes that are left out.
    """
    owners = torch.arange(similarities.shape[1], device=labels.device) // n_each
    ranked = similarities.detach().masked_fill(owners == labels[:, None], math.inf)
    is_joined = torch.zeros_like(ranked, dtype=torch.bool).scatter(1, ranked.topk(n_joined, dim=1).indices, True)
    sums = similarities.where(is_joined, 0.0).unflatten(1, (-1, n_each)).sum(dim=2)
    return sums.masked_fill(~is_joined.unflatten(1, (-1, n_each)).any(dim=2), -math.inf)


class ProxyGmlLoss(CenterObjective):
    """See `ProxyGml`.

    Attributes:
        proxies: float32 [n_classes * n_proxies, dim]; the proxies of a class follow each other. Only their directions
            matter.
    """

    is_additive = True

    def __init__(self, settings: ProxyGml, n_classes: int, dim: int, has_mean_centers: bool = False) -> None:
        """Proxies start as normal noise.

        Args:
            settings: Numbers of proxies and neighbours, and the second term's weight.
            n_classes: Classes of the training set.
            dim: Numbers of an embedding.
            has_mean_centers: `begin_epoch(0)` points the proxies near the means of their classes' embeddings.

        Raises:
            ValueError: there is one class, or the proxies' term is too large.
        """
        super().__init__(settings.n_proxies, has_mean_centers)
        check_classes("ProxyGml", n_classes)
        self.settings = settings
        n_all = n_classes * settings.n_proxies
        if settings.proxy_weight and n_all * n_classes > MOST_LOGITS:
            raise ValueError(
                f"ProxyGml: the term of {n_all:,} proxies and {n_classes:,} classes has {4e-9 * n_all * n_classes:.1f} "
                "GB of logits in each step; set objective.proxy_weight=0, or fewer objective.n_proxies"
            )
        asked = math.ceil(settings.neighbor_share * n_all - 1e-9)  # .07 * 100 is above 7
        self.n_joined = max(asked, 2 * settings.n_proxies)
        if self.n_joined > asked:
            log.warning(
                "ProxyGml: neighbor_share %g of %d proxies is %d, too few beside a class' own %d; each row is joined "
                "to %d",
                *(settings.neighbor_share, n_all, asked, settings.n_proxies, self.n_joined),
            )
        self.proxies = nn.Parameter(torch.randn(n_all, dim))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`; the term of the proxies only where it has a weight."""
        s, embeddings = self.settings, batch.embeddings
        directions = F.normalize(self.proxies.to(embeddings.dtype))
        similarities = F.normalize(embeddings) @ directions.T
        logits = spread_labels(similarities, batch.labels, s.n_proxies, self.n_joined)
        terms = {"rows": F.cross_entropy(logits, batch.labels)}
        if s.proxy_weight:
            terms["proxies"] = s.proxy_weight * self._proxy_loss(directions)
        return terms

    def _proxy_loss(self, directions: Tensor) -> Tensor:
        """The cross entropy of the proxies, whose logits are the sums of their cosines to the proxies of each class."""
        sums = directions.unflatten(0, (-1, self.settings.n_proxies)).sum(dim=1)
        owners = torch.arange(len(directions), device=directions.device) // self.settings.n_proxies
        return F.cross_entropy(directions @ sums.T, owners)

    def points(self) -> nn.Parameter:
        """See `CenterObjective`."""
        return self.proxies

    def rates(self) -> dict[str, float]:
        """See `Objective`."""
        return {"proxies": self.settings.proxy_lr_factor}

    def undecayed(self) -> tuple[str, ...]:
        """See `Objective`."""
        return ("proxies",)
