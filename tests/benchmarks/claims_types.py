"""What a claim of the field is here, and when it counts as reproduced.

The rule:

* A claim is measured with five seeds. A seed decides the start and the order of the images and, but for the shipped
  ViT, which half of the classes is unseen. Both sides of a comparison have the same seed, images and queries.
* The value of a seed is `other - base` of the claim's metric, or a statistic over many models.
* Each value has a standard error e over what was sampled: the classes of the queries, the objectives of a correlation,
  the four domains of a shift. More seeds do not sample more of them. Two seeds share half of their unseen classes, so
  half of e^2 stays however many seeds there are; where all seeds ask about the same sample, all of it stays.
* The mean of n values has a 95 % interval: mean +- t * sqrt(s^2 / n + share * e^2). s^2 is the variance between the
  seeds, share is 1/2 or 1, and t is Student's with the degrees of freedom of Satterthwaite (1946).
* `small` is the smallest difference that matters: .005 of mP@5, half of the claimed gain where that is less, or what
  the row says.
* `more`: reproduced if the whole interval lies above `than`; else contradicted if it lies below `than + small`, so
  that a gain that matters is excluded; else undecided. `less` is the mirror image.
* `no more`: the same interval, and the verdicts exchanged: what helps for one winner did not help for another.
* `no less`: reproduced if the whole interval lies above `than - small`; contradicted if it lies below; else undecided.
  It says that something costs nothing, or is as good as something else.
* `alike`: reproduced if the whole interval lies within `than` +- `small`; contradicted if it lies outside; else
  undecided.
* Every claim that was run is shown. None is run again with other settings until it fits.

This rule was written before the first claim was run, but for three changes. They were made after a review and before
all claims were measured anew: `no less` (such claims had been called `alike`, so that a gain contradicted them), the
share of e^2 that stays (all of it was divided by n), and errors over objectives and domains (there were none). One
change came after the rows were measured: `no less` was contradicted by any loss whose interval excludes 0, also by one
that the claim allows; now the loss must surely be larger than `small`. It makes contradicted claims undecided.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from guie.recipe import Model, PostProcess, Stage

SEEDS = (0, 1, 2, 3, 4)
REPRODUCED, CONTRADICTED, UNDECIDED = "reproduced", "contradicted", "undecided"
NO_POST = PostProcess()
Expected = Literal["more", "less", "alike", "no more", "no less"]
Rung = Literal["", "start", "swap", "remove"]
RUNGS: tuple[Rung, ...] = ("start", "swap", "remove")
OURS = "this project"  # begins the source of what was found here


@dataclass(frozen=True)
class Images:
    """Which training images there are, and with which labels. The queries never change.

    Fewer images are trained on for more epochs, so that all have the same number of steps.

    Attributes:
        min_images: Classes with fewer training images go.
        class_share: Share of the training classes of each domain that stay, drawn at random.
        image_share: Share of the images of each class that stay, at least two.
        wrong_share: Share of the images whose label is wrong.
        is_confusable: A wrong label is that of the class whose mean feature is nearest, else that of any other class.
        domains: The domains that stay; empty is all.
    """

    min_images: int = 0
    class_share: float = 1.0
    image_share: float = 1.0
    wrong_share: float = 0.0
    is_confusable: bool = False
    domains: tuple[str, ...] = ()


@dataclass(frozen=True)
class Projected:
    """A PCA, fitted on the training images' unit embeddings.

    Attributes:
        dim: Components that stay.
        whiten: Exponent of whitening, see `guie.embed.pca.PCA`.
        is_unit: Whether embeddings are L2-normalised first.
        n_first: Only so many of the components are searched with; 0 is all.
    """

    dim: int
    whiten: float = 0.0
    is_unit: bool = True
    n_first: int = 0


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: how images become embeddings, and how they are searched.

    Attributes:
        stages: What is trained, one after the other; none takes the backbone's features as they are.
        objective: Instead of `stages`: the head stage of this objective of objectives_settings.py with the setting that
            its search chose for the seed.
        time: Factor on that stage's number of epochs.
        images: What it is trained on.
        image_px: Side of the square at which images are embedded; 0 is that of the last stage.
        patch_stride: Pixels from one patch of a transformer to the next, where nothing is trained; 0: side by side.
        model: A backbone other than minibench's.
        has_first_split: Every seed has the classes of seed 0 as unseen ones. The shipped ViT needs it: it was distilled
            on the training images of that split, so other splits ask about images that it has seen. Where it is not
            trained, all seeds would then have one value: such rows take the other splits, and say so.
        rung: The classes of each domain are split by a ladder of growing distance (`guie.evaluate.shift`): at random,
            after all swaps, or with the nearer half removed, too. '' keeps the seed's own split.
        views: Averaged, see `guie.settings.embed.Member`.
        n_averaged: Trainings with other random numbers whose weights are averaged.
        joined: Further arms, whose unit embeddings stand beside this one's.
        projected: A PCA after that.
        code: How the embedding is stored: `int8`, `bits`, or '' for float.
        post: What is done at search time.
    """

    stages: tuple[Stage, ...] = ()
    objective: str = ""
    time: float = 1.0
    images: Images = Images()
    image_px: int = 0
    patch_stride: int = 0
    model: Model | None = None
    has_first_split: bool = False
    rung: Rung = ""
    views: tuple[str, ...] = ("plain",)
    n_averaged: int = 1
    joined: tuple[Arm, ...] = ()
    projected: Projected | None = None
    code: Literal["", "int8", "bits"] = ""
    post: PostProcess = NO_POST


@dataclass(frozen=True)
class Claim:
    """A sentence of the field, and how it is checked.

    Attributes:
        name: Of the command line.
        family: The file that its rows stand in.
        says: The claim, in one sentence.
        source: Who says it, and where it was read.
        setup: What is compared here, for people.
        base: What the claim compares with.
        other: What is claimed to be better, worse or alike.
        expected: `other` scores more, less, alike, no more, or no less, see the rule above.
        metric: A column of the queries (mp5, r1, map_at_r), `mp5@DOMAIN` for the queries of one domain, or
            spectral_decay or density of the embedding; frechet, the distance between the sides of a rung.
        small: A difference below it does not matter.
        than: What the value is compared with.
        statistic: Name of a function of claims_statistics.py that gives the value instead of two arms; its rows come
            from the CSV files of objectives.py.
        note: What a reader must know of the set-up: what is ours, what differs from the source.
        is_known: What it says, or a near relative, had been measured on these images before the rule was written.
        seeds: What it is measured with.
    """

    name: str
    family: str
    says: str
    source: str
    setup: str
    base: Arm | None = None
    other: Arm | None = None
    expected: Expected = "more"
    metric: str = "mp5"
    small: float = 0.005
    than: float = 0.0
    statistic: str = ""
    note: str = ""
    is_known: bool = False
    seeds: tuple[int, ...] = field(default=SEEDS)

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Both sides; a statistic has none."""
        return () if self.base is None or self.other is None else (self.base, self.other)

    @property
    def share_that_stays(self) -> float:
        """Of the squared standard error over what was sampled, see the rule above."""
        is_same = any(arm.has_first_split or arm.rung in ("swap", "remove") for arm in self.arms)
        return 1.0 if is_same or not self.arms else 0.5


@dataclass(frozen=True)
class Found:
    """What the seeds of a claim say together.

    Attributes:
        mean: Of the values.
        half: Half the 95 % interval.
        n_seeds: Seeds.
    """

    mean: float
    half: float
    n_seeds: int

    @classmethod
    def of(cls, values: Sequence[float], errors: Sequence[float], n_freedom: float, share: float) -> Found:
        """Of the seeds' values.

        Args:
            values: One a seed.
            errors: The standard error of each over what was sampled; NaN where a value has none.
            n_freedom: Degrees of freedom of these errors.
            share: Of the squared error, which more seeds do not reduce.

        Raises:
            ValueError: fewer than two seeds.
        """
        own, squares = np.asarray(values, float), np.nan_to_num(np.asarray(errors, float)) ** 2
        n = len(own)
        if n < 2:
            raise ValueError(f"an interval needs two seeds, and there is {n}")
        between, stays = own.var(ddof=1) / n, share * squares.mean()
        if between + stays == 0:
            return cls(float(own.mean()), 0.0, n)
        freedom = (between + stays) ** 2 / (between**2 / (n - 1) + stays**2 / n_freedom)
        return cls(float(own.mean()), float(stats.t.ppf(0.975, freedom) * np.sqrt(between + stays)), n)

    def verdict(self, claim: Claim) -> str:
        """See the rule above."""
        low, high = self.mean - self.half - claim.than, self.mean + self.half - claim.than
        if claim.expected == "alike":
            is_true, is_false = -claim.small < low and high < claim.small, low > claim.small or high < -claim.small
        elif claim.expected == "no less":
            is_true, is_false = low > -claim.small, high < -claim.small
        else:
            if claim.expected == "less":
                low, high = -high, -low
            is_true, is_false = low > 0, low <= 0 and high < claim.small
            if claim.expected == "no more":
                is_true, is_false = is_false, is_true
        return REPRODUCED if is_true else CONTRADICTED if is_false else UNDECIDED


def digest(*nodes: Any) -> str:
    """First 10 hex digits of a hash over settings. A field with its default does not count: a field that later code
    adds changes no digest."""
    return hashlib.sha256(json.dumps([_told(node) for node in nodes]).encode()).hexdigest()[:10]


def _told(node: Any) -> Any:
    """Settings as JSON, without the fields that have their defaults."""
    if isinstance(node, tuple):
        return [_told(item) for item in node]
    if not is_dataclass(node):
        return node
    defaults = {own.name: own.default for own in fields(node) if own.default is not MISSING}
    values = {own.name: getattr(node, own.name) for own in fields(node)}
    stated = {name: _told(value) for name, value in values.items() if name not in defaults or defaults[name] != value}
    return {"kind": type(node).__name__, **stated}
