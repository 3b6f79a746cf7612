"""A policy that learns how negatives are drawn: PADS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from guie.settings.fields import check_range, within
from guie.settings.objectives.kind import BETA_LR_FACTOR, LARGEST_DISTANCE, Kind


@dataclass(frozen=True)
class Pads(Kind):
    """Margin or triplet loss whose negatives are drawn by their distance; a small network, trained by reinforcement,
    adapts the drawing to scores on training images that are held out.

    Distances are those of unit embeddings. They are cut into bins, each with a weight. Every few steps the policy
    multiplies each bin's weight by .8, 1 or 1.25. Its reward is the sign of the change of mean(recall@1, NMI) on the
    images held out, which take no part in the training.

    Attributes:
        base: The loss of a triplet: margin (with a learned boundary, beta) or triplet.
        margin_distance: Margin around the boundary, or between the two distances of a triplet.
        beta_distance: Where the boundary starts; published are .6 (CUB, Cars) and 1.2 (SOP).
        beta_lr_factor: Factor of the stage's learning rate for the boundary; 0 keeps it. Published are rates of 5e-4 to
            1e-3 for a model of 1e-5: 50 to 100.
        has_class_beta: Each class has a boundary of its own.
        has_self_regularisation: An anchor and the images of its class stay among the negatives, as published.
        n_bins: Bins of the distance.
        low_distance: Where the first bin begins; it also takes all that is nearer.
        high_distance: Where the last bin ends; it also takes all that is farther.
        start_low_distance: Bins between this and `start_high_distance` have the weight at the start.
        start_high_distance: See `start_low_distance`.
        every_steps: Steps between two turns of the policy; published are 30, and 60 (SOP).
        method: How the policy learns: REINFORCE, or PPO with a clip of .2.
        policy_lr: Learning rate of the policy's own Adam.
        held_out_share: Share of a class' images that are held out; published are .1 to .15.
        max_held_out: Images held out at most: each turn of the policy computes their embeddings anew.

    Source: Roth, Milbich, Ommer, PADS: policy-adapted sampling for visual similarity learning, CVPR 2020, arXiv
    2003.11113.
    """

    has_groups = True
    needs_positives = True
    needs_all_labels = True

    base: Literal["margin", "triplet"] = "margin"
    margin_distance: float = within(0.2, low=0.0, high=LARGEST_DISTANCE)
    beta_distance: float = within(0.6, low=0.0, high=LARGEST_DISTANCE)
    beta_lr_factor: float = within(BETA_LR_FACTOR, low=0.0, high=1e6)
    has_class_beta: bool = False
    has_self_regularisation: bool = True
    n_bins: int = within(29, low=2, high=1000)
    low_distance: float = within(0.1, low=0.0, high=LARGEST_DISTANCE)
    high_distance: float = within(1.4, low=0.0, high=LARGEST_DISTANCE)
    start_low_distance: float = within(0.3, low=0.0, high=LARGEST_DISTANCE)
    start_high_distance: float = within(0.7, low=0.0, high=LARGEST_DISTANCE)
    every_steps: int = within(30, low=1, high=10**6)
    method: Literal["reinforce", "ppo"] = "ppo"
    policy_lr: float = within(0.01, low=1e-9, high=10.0)
    held_out_share: float = within(0.1, low=0.001, high=0.9)
    max_held_out: int = within(500, low=4, high=10**4)

    def check(self, at: str) -> None:
        """Raises ValueError where a lower distance exceeds its upper one, or no bin has weight at the start."""
        check_range(f"{at}.low_distance", self.low_distance, 0.0, self.high_distance - 1e-3)
        check_range(f"{at}.start_low_distance", self.start_low_distance, 0.0, self.start_high_distance)
        if not any(self.starts_with(i) for i in range(self.n_bins)):
            raise ValueError(
                f"{at}: no bin has its middle between start_low_distance {self.start_low_distance} and "
                f"start_high_distance {self.start_high_distance}; widen them, or take more n_bins"
            )

    @property
    def bin_width(self) -> float:
        """Of a bin, as a distance."""
        return (self.high_distance - self.low_distance) / self.n_bins

    def middle(self, i: int) -> float:
        """The distance in the middle of bin `i`."""
        return self.low_distance + (i + 0.5) * self.bin_width

    def starts_with(self, i: int) -> bool:
        """Whether bin `i` has weight at the start: its middle lies between the two start distances."""
        return self.start_low_distance <= self.middle(i) <= self.start_high_distance

    @property
    def has_weights(self) -> bool:  # type: ignore[override]
        """See `Kind`: the boundary, which the triplet base lacks."""
        return self.base == "margin"

    def state_shape(self) -> tuple[Any, ...]:
        """See `Kind`; the boundary is the only weight that a later stage may start from."""
        return (*super().state_shape(), self.base, self.base == "margin" and self.has_class_beta)
