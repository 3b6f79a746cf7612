"""Any other loss of pytorch-metric-learning, by its name there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from guie.settings.fields import check_range, nearest, within
from guie.settings.objectives.kind import Kind
from guie.settings.objectives.memory import Memory
from guie.settings.objectives.miners import MOST_TRIPLETS, Miner

# Losses of pairs or triplets: these take a miner, and a memory.
OF_PAIRS = (
    "AngularLoss",
    "CircleLoss",
    "ContrastiveLoss",
    "GeneralizedLiftedStructureLoss",
    "IntraPairVarianceLoss",
    "MarginLoss",
    "MultiSimilarityLoss",
    "NTXentLoss",
    "SignalToNoiseRatioContrastiveLoss",
    "SupConLoss",
    "TripletMarginLoss",
    "TupletMarginLoss",
)
# Losses of a whole batch.
OF_BATCHES = (
    "FastAPLoss",
    "HistogramLoss",
    "LiftedStructureLoss",
    "NCALoss",
    "NPairsLoss",
    "PNPLoss",
    "RankedListLoss",
    "ThresholdConsistentMarginLoss",
)
# Losses with weights for each class.
OF_CLASSES = (
    "ArcFaceLoss",
    "CosFaceLoss",
    "LargeMarginSoftmaxLoss",
    "NormalizedSoftmaxLoss",
    "ProxyAnchorLoss",
    "ProxyNCALoss",
    "SoftTripleLoss",
    "SphereFaceLoss",
    "SubCenterArcFaceLoss",
)
LOSSES = (*OF_PAIRS, *OF_BATCHES, *OF_CLASSES)
# Losses that the library has and that are refused here, with the reason.
REFUSED = {
    "CrossBatchMemory": "set the field memory instead",
    "DynamicSoftMarginLoss": "it changes a histogram whenever it is computed, outside of its state: a stage with it "
    "could not resume",
    "InstanceLoss": "it compares an image with the batch's row of the number of its class",
    "ManifoldLoss": "it takes no classes",
    "MultipleLosses": "write Sum(terms=(...)) instead",
    "P2SGradLoss": "it changes its weights whenever it is computed",
    "SelfSupervisedLoss": "it takes no classes; sampling.views_per_image gives a batch several views of an image",
    "SmoothAPLoss": "it cuts the batch into as many groups as a class has images, which are classes only where both "
    "numbers are equal",
    "VICRegLoss": "it takes no classes",
}
SHAPING = ("centers_per_class", "learn_beta", "sub_centers")  # options that decide the shapes of weights
LARGEST = 1e12


@dataclass(frozen=True, kw_only=True)
class Library(Kind):
    """Any loss of pytorch-metric-learning 2.9: `Library(loss="TripletMarginLoss", options=(("margin", 0.2),))`.

    Angles are in degrees there. The number of classes and the width of the embedding are given to losses that ask for
    them. From the command line: `--set stages.s1.objective.options=margin=0.2,swap=true`.

    Attributes:
        loss: Its class.
        options: Names and values for the class; those that are not named have its defaults.
        weight: Factor of the loss.
        miner: Which pairs or triplets are taken, for losses of pairs; None takes all.
        memory: Embeddings of earlier batches that each batch is compared with as well, for losses of pairs.
        max_triplets_per_anchor: See `PairSettings`.
        weights_lr_factor: Factor of the stage's learning rate for the loss' own weights.

    Source: Musgrave et al., PyTorch Metric Learning, arXiv 2008.09164.
    """

    loss: str = "TripletMarginLoss"
    options: tuple[tuple[str, int | float | bool | str], ...] = within((), low=-LARGEST, high=LARGEST)
    weight: float = within(1.0, low=0.0, high=1e4)
    miner: Miner | None = None
    memory: Memory | None = None
    max_triplets_per_anchor: int = within(MOST_TRIPLETS, low=1, high=10**6)
    weights_lr_factor: float = within(1.0, low=0.0, high=1e6)

    @property
    def needs_positives(self) -> bool:  # type: ignore[override]
        """See `Kind`; losses with weights for each class do not."""
        return self.loss not in OF_CLASSES

    @property
    def has_weights(self) -> bool:  # type: ignore[override]
        """See `Kind`; of the losses of pairs the margin loss alone can learn something."""
        return self.loss in OF_CLASSES or ("learn_beta", True) in self.options

    def state_shape(self) -> tuple[Any, ...]:
        """See `Kind`."""
        shaping = [f"{name}={value}" for name, value in sorted(self.options) if name in SHAPING]
        return ("Library", self.loss, *shaping)

    def check(self, at: str) -> None:
        """Raises ValueError for a loss that there is not or that is refused, an option that stands twice, and a miner
        or memory that the loss cannot use."""
        if self.loss in REFUSED:
            raise ValueError(f"{at}.loss is {self.loss!r}, which is refused: {REFUSED[self.loss]}")
        if self.loss not in LOSSES:
            raise ValueError(f"{at}.loss is {self.loss!r}, which is no loss; {nearest(self.loss, LOSSES)}")
        names = [name for name, _ in self.options]
        for name, value in self.options:
            check_range(f"{at}.options: {name}", value, -LARGEST, LARGEST)
            if names.count(name) > 1:
                raise ValueError(f"{at}.options: {name!r} stands twice")
        is_of_pairs = self.loss in OF_PAIRS and ("swap", True) not in self.options
        for name in ("miner", "memory"):
            if getattr(self, name) is not None and not is_of_pairs:
                with_swap = " with swap" if self.loss in OF_PAIRS else ""
                raise ValueError(f"{at}.{name} is set, but {self.loss}{with_swap} takes none; set {at}.{name}=None")
