"""Classification with a margin that multiplies the angle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from guie.settings.fields import check_range, within
from guie.settings.objectives.kind import Kind


class _OneCenter(Kind):
    """Kinds whose weights are one centre for each class."""

    has_weights = True
    has_centers = True

    def state_shape(self) -> tuple[Any, ...]:
        """See `Kind`; ArcFace's centres serve here, and the other way round."""
        return ("centers", 1)


@dataclass(frozen=True)
class SphereFace(_OneCenter):
    """Cross entropy over projections on class directions; the angle to the own class counts `angle_factor` times.

    An embedding's length is its scale, so lengths are learned. The own logit is |x| (w cos(angle) + psi(angle)) / (1 +
    w) with a weight w of the plain cosine that falls during the stage: max(end, start / (1 + decay * step)).

    Attributes:
        angle_factor: How many times the angle counts (m).
        plain_weight_start: Weight of the plain cosine at step 0; 0, with `plain_weight_end` 0, trains with psi alone.
        plain_weight_decay: How fast that weight falls.
        plain_weight_end: Where it stops falling.
        center_lr_factor: Factor of the stage's learning rate for the centres.

    Source: Liu et al., SphereFace, CVPR 2017, arXiv 1704.08063; the weights are those of its released settings.
    """

    angle_factor: int = within(4, low=1, high=16)
    plain_weight_start: float = within(1000.0, low=0.0, high=1e6)
    plain_weight_decay: float = within(0.12, low=0.0, high=1e3)
    plain_weight_end: float = within(5.0, low=0.0, high=1e6)
    center_lr_factor: float = within(1.0, low=0.0, high=1e6)

    def check(self, at: str) -> None:
        """Raises ValueError where the weight of the plain cosine would have to rise."""
        check_range(f"{at}.plain_weight_end", self.plain_weight_end, 0.0, self.plain_weight_start)


@dataclass(frozen=True)
class SphereFaceR(_OneCenter):
    """Cross entropy over scaled cosines to class centres; the angle to the own class counts `angle_factor` times, up to
    a half turn.

    Attributes:
        angle_factor: How many times the angle counts (m).
        scale: Factor of the cosines, s.
        center_lr_factor: Factor of the stage's learning rate for the centres.

    Source: Liu et al., SphereFace revived, TPAMI 2022, arXiv 2109.05565.
    """

    angle_factor: float = within(1.5, low=1.0, high=16.0)
    scale: float = within(30.0, low=1e-3, high=1e4)
    center_lr_factor: float = within(1.0, low=0.0, high=1e6)


SphereSettings = SphereFace | SphereFaceR
