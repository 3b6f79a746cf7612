"""Objectives that compare images with proxies: learned points that stand for classes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guie.settings.objectives.proxies import ProxyAnchor, ProxyNca, SoftTriple
from guie.train.objectives.base import Batch
from guie.train.objectives.centers import CenterObjective, check_classes

MERGE_EPSILON = 1e-5  # of SoftTriple's root: centres that coincide have a finite slope


class ProxyNcaObjective(CenterObjective):
    """See `ProxyNca`.

    Attributes:
        proxies: float32 [n_classes, dim]; only their directions matter.
    """

    is_additive = True

    def __init__(self, settings: ProxyNca, n_classes: int, dim: int, has_mean_centers: bool = False) -> None:
        """Proxies start at random; ValueError for one class alone."""
        super().__init__(1, has_mean_centers)
        check_classes("ProxyNca", n_classes)
        self.settings = settings
        self.proxies = nn.Parameter(torch.randn(n_classes, dim) / 8)

    def points(self) -> nn.Parameter:
        """See `CenterObjective`."""
        return self.proxies

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`."""
        cosines = F.normalize(batch.embeddings) @ F.normalize(self.proxies).T
        logits = -self.settings.scale * (2 - 2 * cosines)
        if self.settings.is_plus_plus:
            return {"loss": self.settings.weight * F.cross_entropy(logits, batch.labels)}
        own = logits.gather(1, batch.labels[:, None])
        others = logits.scatter(1, batch.labels[:, None], -math.inf)
        return {"loss": self.settings.weight * (others.logsumexp(dim=1) - own[:, 0]).mean()}

    def rates(self) -> dict[str, float]:
        """See `Objective`."""
        return {"proxies": self.settings.proxy_lr_factor}

    def undecayed(self) -> tuple[str, ...]:
        """See `Objective`."""
        return ("proxies",)


class ProxyAnchorObjective(CenterObjective):
    """See `ProxyAnchor`; pytorch-metric-learning computes it.

    Attributes:
        inner: The library's module, with `proxies`, float32 [n_classes, dim]; only their directions matter.
    """

    def __init__(self, settings: ProxyAnchor, n_classes: int, dim: int, has_mean_centers: bool = False) -> None:
        """Proxies start at random; ValueError for one class alone."""
        from pytorch_metric_learning.losses import ProxyAnchorLoss  # half a second

        super().__init__(1, has_mean_centers)
        check_classes("ProxyAnchor", n_classes)
        self.settings = settings
        self.inner = ProxyAnchorLoss(n_classes, dim, margin=settings.margin_cosine, alpha=settings.scale)

    def points(self) -> nn.Parameter:
        """See `CenterObjective`."""
        return self.inner.get_parameter("proxies")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`."""
        return {"loss": self.settings.weight * self.inner(batch.embeddings, batch.labels)}

    def rates(self) -> dict[str, float]:
        """See `Objective`."""
        return {"inner.proxies": self.settings.proxy_lr_factor}

    def undecayed(self) -> tuple[str, ...]:
        """See `Objective`."""
        return ("inner.proxies",)


class SoftTripleObjective(CenterObjective):
    """See `SoftTriple`. It is written here, since pytorch-metric-learning compares all centres with all to compare
    those of one class: 40 GB for 10,000 classes.

    Attributes:
        centers: float32 [n_classes * n_centers, dim]; those of a class follow each other, and only their directions
            matter.
    """

    is_additive = True

    def __init__(self, settings: SoftTriple, n_classes: int, dim: int, has_mean_centers: bool = False) -> None:
        """Centres start at random; ValueError for one class alone."""
        super().__init__(settings.n_centers, has_mean_centers)
        check_classes("SoftTriple", n_classes)
        self.settings = settings
        self.centers = nn.Parameter(torch.randn(n_classes * settings.n_centers, dim) / 8)

    def points(self) -> nn.Parameter:
        """See `CenterObjective`."""
        return self.centers

    def target(self, own: Tensor, batch: Batch) -> Tensor:
        """See `CenterObjective`."""
        return own - self.settings.margin_cosine

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`."""
        s = self.settings
        centers = F.normalize(self.centers).unflatten(0, (-1, s.n_centers))
        cosines = torch.einsum("nd,ckd->nck", F.normalize(batch.embeddings), centers)
        similarities = ((cosines / s.temperature).softmax(dim=2) * cosines).sum(dim=2)
        own = F.one_hot(batch.labels, len(centers))
        loss = F.cross_entropy(s.scale * (similarities - s.margin_cosine * own), batch.labels)
        terms = {"softmax": s.weight * loss}
        if s.n_centers > 1:
            terms["merge"] = s.weight * s.merge_weight * merging(centers)
        return terms

    def rates(self) -> dict[str, float]:
        """See `Objective`."""
        return {"centers": self.settings.center_lr_factor}

    def undecayed(self) -> tuple[str, ...]:
        """See `Objective`."""
        return ("centers",)


def merging(centers: Tensor) -> Tensor:
    """Half the mean distance between two centres of one class, a scalar.

    Args:
        centers: float [n_classes, n_centers, dim], unit vectors.
    """
    n_classes, n_centers, _ = centers.shape
    i, j = torch.triu_indices(n_centers, n_centers, offset=1, device=centers.device)
    cosines = (centers @ centers.transpose(1, 2))[:, i, j]
    distances = (2 + MERGE_EPSILON - 2 * cosines).clamp_min(MERGE_EPSILON / 2).sqrt()
    return distances.sum() / (n_classes * n_centers * (n_centers - 1))
