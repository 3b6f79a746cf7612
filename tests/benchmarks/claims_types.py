"""What a claim of the field is here, and when it counts as reproduced.

The rule, written before the first run:

* A claim is measured with five seeds. A seed decides which classes are unseen, the start, and the order of the images.
  Both sides of a comparison have the same seed, images and queries.
* The value of a seed is `other - base` of the claim's metric, or a statistic over many models. Its mean has a 95 %
  interval: mean +- t * sqrt(s^2 / n + e^2 / n) with Student's t for n - 1 degrees of freedom. s^2 is the variance
  between the seeds. e is the standard error of one seed's difference over its classes: the classes are the sample, and
  other classes would give another difference. Between seeds the classes change, too, so the interval is too wide
  rather than too narrow.
* `more`: reproduced if the whole interval lies above `than`; contradicted if it lies below `than + small`, so that a
  gain worth having is excluded; else undecided. `less` is the mirror image.
* `no more`: reproduced if the whole interval lies below `than + small`; contradicted if it lies above `than`; else
  undecided. It is `more` with the verdicts exchanged: what helps for one winner did not help for another.
* `alike`: reproduced if the whole interval lies within `than` +- `small`; contradicted if it lies outside; else
  undecided.
* Every claim that was run is shown. None is run again with other settings until it fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy import stats

from guie.recipe import Model, PostProcess, Stage

SEEDS = (0, 1, 2, 3, 4)
REPRODUCED, CONTRADICTED, UNDECIDED = "reproduced", "contradicted", "undecided"
NO_POST = PostProcess()
Expected = Literal["more", "less", "alike", "no more"]


@dataclass(frozen=True)
class Images:
    """Which training images there are, and with which labels. The queries never change.

    Attributes:
        class_share: Share of the training classes of each domain that stay, drawn at random.
        image_share: Share of the images of each class that stay, at least two.
        wrong_share: Share of the images whose label is wrong.
        is_confusable: A wrong label is that of the class whose mean feature is nearest, else that of any other class.
        domains: The domains that stay; empty is all.
    """

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
        time: The epochs of that stage are so many times as many.
        images: What it is trained on.
        image_px: Side of the square at which images are embedded; 0 is that of the last stage.
        model: A backbone other than minibench's.
        has_first_split: The classes are split as seed 0 splits them, whatever the seed: for the shipped ViT, which was
            distilled on the training images of that split.
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
    model: Model | None = None
    has_first_split: bool = False
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
        expected: `other` scores more, less, alike, or no more, see the rule above.
        metric: A column of the queries (mp5, r1, map_at_r), or spectral_decay or density of the embedding.
        small: A difference below it does not matter.
        than: What the value is compared with.
        statistic: Name of a function of claims_statistics.py that gives the value instead of two arms; its rows come
            from the CSV files of objectives.py.
        note: What a reader must know of the set-up: what is ours, what differs from the source.
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
    seeds: tuple[int, ...] = field(default=SEEDS)


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
    def of(cls, values: Sequence[float], class_errors: Sequence[float]) -> Found:
        """Of the seeds' values and of their standard errors over classes; NaN where a value has none.

        Raises:
            ValueError: fewer than two seeds.
        """
        own, errors = np.asarray(values, float), np.nan_to_num(np.asarray(class_errors, float))
        n = len(own)
        if n < 2:
            raise ValueError(f"an interval needs two seeds, and there is {n}")
        error = np.sqrt((own.var(ddof=1) + (errors**2).mean()) / n)
        return cls(float(own.mean()), float(stats.t.ppf(0.975, n - 1) * error), n)

    def verdict(self, claim: Claim) -> str:
        """See the rule above."""
        low, high = self.mean - self.half - claim.than, self.mean + self.half - claim.than
        if claim.expected == "alike":
            if -claim.small < low and high < claim.small:
                return REPRODUCED
            return CONTRADICTED if low > claim.small or high < -claim.small else UNDECIDED
        if claim.expected == "less":
            low, high = -high, -low
        gains, gains_nothing = low > 0, low <= 0 and high < claim.small
        if claim.expected == "no more":
            gains, gains_nothing = gains_nothing, gains
        return REPRODUCED if gains else CONTRADICTED if gains_nothing else UNDECIDED
