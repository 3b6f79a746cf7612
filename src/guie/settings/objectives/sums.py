"""Several objectives at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from guie.settings.objectives.bier import Bier
from guie.settings.objectives.diva import Diva
from guie.settings.objectives.divide import DivideConquer, HierarchicalDivide
from guie.settings.objectives.graphs import ProxyGml
from guie.settings.objectives.group import GroupLoss
from guie.settings.objectives.keep import KeepCosines
from guie.settings.objectives.kind import Kind
from guie.settings.objectives.library import Library
from guie.settings.objectives.margins import MarginSettings
from guie.settings.objectives.message import MessagePassing
from guie.settings.objectives.mic import Mic
from guie.settings.objectives.pads import Pads
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
from guie.settings.objectives.regularisers import (
    KoLeo,
    RhoContrastive,
    RhoMargin,
    RhoTriplet,
    ThresholdConsistentMargin,
)
from guie.settings.objectives.sharing import SharingMatters
from guie.settings.objectives.spheres import SphereFace, SphereFaceR

Term = (
    MarginSettings
    | Bier
    | Circle
    | Contrastive
    | DistanceContrastive
    | Diva
    | DivideConquer
    | GroupLoss
    | HierarchicalDivide
    | KeepCosines
    | KoLeo
    | Library
    | LiftedStructure
    | MarginLoss
    | MessagePassing
    | Mic
    | MultiSimilarity
    | NtXent
    | Pads
    | ProxyAnchor
    | ProxyGml
    | ProxyNca
    | RhoContrastive
    | RhoMargin
    | RhoTriplet
    | SharingMatters
    | SoftTriple
    | SphereFace
    | SphereFaceR
    | SupCon
    | ThresholdConsistentMargin
    | Triplet
)


@dataclass(frozen=True, kw_only=True)
class Sum(Kind):
    """Several objectives of which the sum is minimised: `Sum(terms=(Contrastive(), KoLeo(weight=0.7)))`.

    If a stage names a source without labels, the terms that need labels do not see its images; the others do. The loss
    of a term that needs labels is then the mean over the labelled rows of the batch. In a batch without any it is left
    out, which counts as 0 in `metrics.csv`.

    Attributes:
        terms: The objectives, of different kinds; a path reaches each by its number: `objective.terms.1.weight`.
    """

    terms: tuple[Term, ...]

    @property
    def has_centers(self) -> bool:  # type: ignore[override]
        """See `Kind`."""
        return any(term.has_centers for term in self.terms)

    @property
    def has_weights(self) -> bool:  # type: ignore[override]
        """See `Kind`."""
        return any(term.has_weights for term in self.terms)

    @property
    def has_groups(self) -> bool:  # type: ignore[override]
        """See `Kind`."""
        return any(term.has_groups for term in self.terms)

    @property
    def compares_images(self) -> bool:  # type: ignore[override]
        """See `Kind`."""
        return any(term.compares_images for term in self.terms)

    @property
    def needs_positives(self) -> bool:  # type: ignore[override]
        """See `Kind`."""
        return any(term.needs_positives for term in self.terms)

    @property
    def needs_all_labels(self) -> bool:  # type: ignore[override]
        """See `Kind`."""
        return any(term.needs_all_labels for term in self.terms)

    @property
    def teachers(self) -> tuple[str, ...]:  # type: ignore[override]
        """See `Kind`."""
        return tuple(dict.fromkeys(name for term in self.terms for name in term.teachers))

    @property
    def needs_labels(self) -> bool:  # type: ignore[override]
        """See `Kind`."""
        return any(term.needs_labels for term in self.terms)

    @property
    def may_lack_labels(self) -> bool:
        """See `Kind`."""
        return not self.needs_all_labels and any(term.may_lack_labels for term in self.terms)

    def check_batch(self, at: str, n_classes: int) -> None:
        """See `Kind`."""
        for i, term in enumerate(self.terms):
            term.check_batch(f"{at}.terms.{i}", n_classes)

    def state_shape(self) -> tuple[Any, ...]:
        """See `Kind`."""
        return ("sum", *(term.state_shape() for term in self.terms))

    def check(self, at: str) -> None:
        """Raises ValueError without two terms, where a kind stands twice, or where two decide which images share a
        batch."""
        names = [type(term).__name__ for term in self.terms]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"{at}.terms is of {', '.join(names) or 'nothing'}: it needs several kinds, each once")
        deciding = [type(term).__name__ for term in self.terms if term.has_groups]
        if len(deciding) > 1:
            raise ValueError(
                f"{at}.terms: {' and '.join(deciding)} both decide which images share a batch; take one of them"
            )
