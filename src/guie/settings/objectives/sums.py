"""Several objectives at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from guie.settings.objectives.group import GroupLoss
from guie.settings.objectives.kind import Kind
from guie.settings.objectives.library import Library
from guie.settings.objectives.margins import MarginSettings
from guie.settings.objectives.message import MessagePassing
from guie.settings.objectives.pads import Pads

Term = MarginSettings | GroupLoss | MessagePassing | Pads
from guie.settings.objectives.graphs import ProxyGml
from guie.settings.objectives.kind import Kind
from guie.settings.objectives.margins import MarginSettings
from guie.settings.objectives.regularisers import KoLeo, RhoSettings, ThresholdConsistentMargin
from guie.settings.objectives.spheres import SphereSettings

Term = MarginSettings | KoLeo | ProxyGml | RhoSettings | SphereSettings | ThresholdConsistentMargin
from guie.settings.objectives.pairs import (
    Circle,
    Contrastive,
    DistanceContrastive,
    LiftedStructure,
    MarginLoss,
    MultiSimilarity,
    NtXent,
    SupCon,
    Triplet,
)
from guie.settings.objectives.proxies import ProxyAnchor, ProxyNca, SoftTriple

Term = (
    MarginSettings
    | Circle
    | Contrastive
    | DistanceContrastive
    | Library
    | LiftedStructure
    | MarginLoss
    | MultiSimilarity
    | NtXent
    | ProxyAnchor
    | ProxyNca
    | SoftTriple
    | SupCon
    | Triplet
)


@dataclass(frozen=True, kw_only=True)
class Sum(Kind):
    """Several objectives of which the sum is minimised: `Sum(terms=(Contrastive(), KoLeo(weight=0.7)))`.

    Attributes:
        terms: The objectives, of different kinds; a path reaches each by its number: `objective.terms.1.weight`.
    """

    terms: tuple[Term, ...]

    @property
    def needs_positives(self) -> bool:  # type: ignore[override]
        """See `Kind`."""
        return any(term.needs_positives for term in self.terms)

    def state_shape(self) -> tuple[Any, ...]:
        """See `Kind`."""
        return ("sum", *(term.state_shape() for term in self.terms))

    def check(self, at: str) -> None:
        """Raises ValueError without two terms, or where a kind stands twice."""
        names = [type(term).__name__ for term in self.terms]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"{at}.terms is of {', '.join(names) or 'nothing'}: it needs several kinds, each once")
