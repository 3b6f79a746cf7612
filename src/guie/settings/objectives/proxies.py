"""Losses of images and proxies: learned points that stand for classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from guie.settings.fields import within
from guie.settings.objectives.kind import Kind


@dataclass(frozen=True, kw_only=True)
class ProxyNca(Kind):
    """Neighbourhood component analysis of squared distances to one proxy a class.

    With D the squared distance of unit vectors, times the scale: ProxyNCA++ is the mean over the images of
    -log(exp(-D_own) / sum of all proxies exp(-D)). ProxyNCA is the same without the own proxy in the sum, so that the
    loss can be negative.

    Attributes:
        weight: Factor of the loss.
        scale: Factor of the squared distances, one over the temperature; ++ has 9, the original 1.
        is_plus_plus: The own proxy is in the sum. The paper's max pooling and layer norm belong to the backbone.
        proxy_lr_factor: Factor of the stage's learning rate for the proxies.

    Source: Movshovitz-Attias et al., ICCV 2017, arXiv 1703.07464; Teh et al., ECCV 2020, arXiv 2004.01113.
    """

    has_weights = True
    has_centers = True

    weight: float = within(1.0, low=0.0, high=1e4)
    scale: float = within(9.0, low=1e-3, high=1e4)
    is_plus_plus: bool = True
    proxy_lr_factor: float = within(100.0, low=0.0, high=1e6)


@dataclass(frozen=True, kw_only=True)
class ProxyAnchor(Kind):
    """Each proxy is an anchor that the images of the batch are pulled to or pushed from.

    The mean over the proxies of the batch's classes of log(1 + sum of their images exp(-scale (s - margin))), and the
    mean over all proxies of log(1 + sum of the other classes' images exp(scale (s + margin))), where s is the cosine.

    Attributes:
        weight: Factor of the loss.
        margin_cosine: delta.
        scale: alpha.
        proxy_lr_factor: Factor of the stage's learning rate for the proxies.

    Source: Kim et al., CVPR 2020, arXiv 2003.13911.
    """

    has_weights = True
    has_centers = True

    weight: float = within(1.0, low=0.0, high=1e4)
    margin_cosine: float = within(0.1, low=-1.0, high=1.0)
    scale: float = within(32.0, low=1e-3, high=1e4)
    proxy_lr_factor: float = within(100.0, low=0.0, high=1e6)


@dataclass(frozen=True, kw_only=True)
class SoftTriple(Kind):
    """Softmax over classes of several centres each.

    The similarity to a class is the mean of the cosines to its centres, weighted by their softmax. The own class' is
    lowered by a margin. A second term pulls the centres of a class together, so that those without use merge.

    Attributes:
        weight: Factor of the loss.
        n_centers: Centres of each class, K.
        scale: Factor of the similarities, lambda.
        temperature: Of the softmax over the centres of a class, gamma.
        margin_cosine: delta.
        merge_weight: Weight of the second term, tau.
        center_lr_factor: Factor of the stage's learning rate for the centres.

    Source: Qian et al., ICCV 2019, arXiv 1909.05235.
    """

    has_weights = True
    has_centers = True

    weight: float = within(1.0, low=0.0, high=1e4)
    n_centers: int = within(10, low=1, high=1000)
    scale: float = within(20.0, low=1e-3, high=1e4)
    temperature: float = within(0.1, low=1e-3, high=100.0)
    margin_cosine: float = within(0.01, low=0.0, high=1.0)
    merge_weight: float = within(0.2, low=0.0, high=1e4)
    center_lr_factor: float = within(100.0, low=0.0, high=1e6)

    def state_shape(self) -> tuple[Any, ...]:
        """See `Kind`."""
        return ("SoftTriple", self.n_centers)
