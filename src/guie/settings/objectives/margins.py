"""Classification with a margin: ArcFace, CosFace, and normalised softmax without one.

`optim.weight_decay` applies to the class centres, as in the winners' code (1st place: SGD over all parameters; 5th:
AdamW over model.parameters()). The loss depends on their directions alone. Decay changes how fast these move: the
gradient falls with a centre's length, and without decay the length only grows (van Laarhoven, arXiv 1706.05350).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from guie.settings.fields import check_range, within
from guie.settings.objectives.kind import Kind

LARGEST_MARGIN = 1.57  # pi / 2, a right angle


@dataclass(frozen=True)
class GrowingMargin:
    """A margin that grows with the epoch, counted from 0: min(start + epoch * step, max).

    Its unit is that of the field that holds it: radians for `margin_rad`, a cosine for `margin_cosine`.
    Source: 2nd place of GUIE, arXiv 2210.08735.
    """

    start: float = within(0.1, low=0.0, high=LARGEST_MARGIN)
    step: float = within(0.1, low=0.0, high=LARGEST_MARGIN)
    max: float = within(0.5, low=0.0, high=LARGEST_MARGIN)


@dataclass(frozen=True)
class ClassMargin:
    """A margin for each class: n ** power of its n training rows, scaled linearly to `low` .. `high`; rare classes get
    a large one.

    Its unit is that of the field that holds it. Source: 4th and 6th place of GUIE, after the Google Landmark winners
    (arXiv 2010.05350; power -1/4, .05 to .5).
    """

    low: float = within(0.05, low=0.0, high=LARGEST_MARGIN)
    high: float = within(0.5, low=0.0, high=LARGEST_MARGIN)
    power: float = within(-0.25, low=-10.0, high=0.0)

    def check(self, at: str) -> None:
        """Raises ValueError where the low margin exceeds the high one."""
        check_range(f"{at}.low", self.low, 0.0, self.high)


class _Centers(Kind):
    """Kinds whose weights are class centres."""

    has_weights = True
    has_centers = True
    n_sub_centers: int

    def state_shape(self) -> tuple[Any, ...]:
        """See `Kind`; the centres of one kind serve another."""
        return ("centers", self.n_sub_centers)


@dataclass(frozen=True)
class ArcFace(_Centers):
    """Cross entropy over cosines to class centres; the margin is added to the angle of the own class.

    Attributes:
        margin_rad: One margin for all classes and epochs, or a rule.
        scale: Factor of the cosines, s.
        label_smoothing: Share of the target that is spread over all classes.
        n_sub_centers: Centres of each class, of which the nearest counts (sub-centre ArcFace, ECCV 2020).
        center_lr_factor: Factor of the stage's learning rate for the centres. Berton et al. (arXiv 2503.13045) train
            them at a rate of 1 beside 1e-6.

    Source: Deng et al., arXiv 1801.07698, equation 3.
    """

    margin_rad: float | GrowingMargin | ClassMargin = within(GrowingMargin(), low=0.0, high=LARGEST_MARGIN)
    scale: float = within(30.0, low=1e-3, high=1e4)
    label_smoothing: float = within(0.0, low=0.0, high=0.99)
    n_sub_centers: int = within(1, low=1, high=100)
    center_lr_factor: float = within(1.0, low=0.0, high=1e6)


@dataclass(frozen=True)
class CosFace(_Centers):
    """Cross entropy over cosines to class centres; the margin is subtracted from the cosine of the own class.

    Attributes:
        margin_cosine: One margin for all classes and epochs, or a rule.
        scale: Factor of the cosines, s.
        label_smoothing: Share of the target that is spread over all classes.
        n_sub_centers: Centres of each class, of which the nearest counts.
        center_lr_factor: Factor of the stage's learning rate for the centres.

    Source: Wang et al., arXiv 1801.09414, equation 4.
    """

    margin_cosine: float | GrowingMargin | ClassMargin = within(GrowingMargin(), low=0.0, high=LARGEST_MARGIN)
    scale: float = within(30.0, low=1e-3, high=1e4)
    label_smoothing: float = within(0.0, low=0.0, high=0.99)
    n_sub_centers: int = within(1, low=1, high=100)
    center_lr_factor: float = within(1.0, low=0.0, high=1e6)


@dataclass(frozen=True)
class Softmax(_Centers):
    """Normalised softmax: cross entropy over scaled cosines to class centres, without a margin.

    Attributes:
        scale: Factor of the cosines, one over the temperature.
        label_smoothing: Share of the target that is spread over all classes.
        n_sub_centers: Centres of each class, of which the nearest counts.
        center_lr_factor: Factor of the stage's learning rate for the centres.

    Source: Zhai and Wu, Classification is a strong baseline, BMVC 2019, arXiv 1811.12649.
    """

    scale: float = within(30.0, low=1e-3, high=1e4)
    label_smoothing: float = within(0.0, low=0.0, high=0.99)
    n_sub_centers: int = within(1, low=1, high=100)
    center_lr_factor: float = within(1.0, low=0.0, high=1e6)


MarginSettings = ArcFace | CosFace | Softmax
