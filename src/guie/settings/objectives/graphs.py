"""Proxies as nodes of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from guie.settings.fields import within
from guie.settings.objectives.kind import Kind


@dataclass(frozen=True)
class ProxyGml(Kind):
    """Each row is classified by the proxies nearest to it.

    A row is joined to all proxies of its own class, and to the most similar of the other proxies. The logit of a class
    is the sum of the row's cosines to those proxies of the class that it is joined to. A class without a joined proxy
    is left out. The loss is the cross entropy of these logits. A second term classifies each proxy by its cosines to
    the proxies of all classes.

    Attributes:
        n_proxies: Proxies of each class; 12 for CUB and Cars, 1 for SOP.
        neighbor_share: Share of all proxies that a row is joined to, the own class' included. Small data sets would
            leave no other class: at least twice `n_proxies` are joined.
        proxy_weight: Factor of the term that classifies the proxies; SOP 0.
        proxy_lr_factor: Factor of the stage's learning rate for the proxies; published are .03 for a model of 1e-4.

    Source: Zhu et al., Fewer is more: a deep graph metric learning perspective using fewer proxies, NeurIPS 2020, arXiv
    2010.13636.
    """

    has_weights = True
    has_centers = True

    n_proxies: int = within(12, low=1, high=1000)
    neighbor_share: float = within(0.05, low=0.0, high=1.0)
    proxy_weight: float = within(0.3, low=0.0, high=1e3)
    proxy_lr_factor: float = within(300.0, low=0.0, high=1e6)

    def state_shape(self) -> tuple[Any, ...]:
        """See `Kind`."""
        return ("proxies of ProxyGml", self.n_proxies)
