"""The section `data` of a recipe: which images, how they are split, balanced and packed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from guie.settings.fields import check_range, check_unique, nearest, within
from guie.settings.names import check_name

GROUPS = "groups.csv"  # label,group in a source's folder: which of its classes are near-twins
UNLABELLED = "unlabelled"  # the kind of a source without labels, and the split of its images
RESERVED_DOMAINS = (
    "low",
    "high",
    "std",
    "control",
)  # mp5_low, mp5_high, mp5_std and mp5_control are columns of their own


@dataclass(frozen=True)
class Source:
    """One data set on disk.

    Attributes:
        name: What its rows are called in the manifest's `source` column.
        kind: Its layout: the name of a module in `guie.data.sources`.
        folder: Where it lies, relative to the data root.
        domain: The domain its images belong to; scores are averaged over domains with equal weight. An unlabelled
            source has no score, but `Data.foreign_domain` leaves its images out by this name, too. So give it the
            domain of the labelled source that shows the same kind of things.
        licence: Its images' licence, where that is not the one known of its kind (`data_prep/00_fetch.py` lists those).
        is_commercial: Whether that licence allows commercial use; counts only with `licence`.
    """

    name: str
    kind: str
    folder: str
    domain: str
    licence: str = ""
    is_commercial: bool = False

    @property
    def is_unlabelled(self) -> bool:
        """Whether its images have no labels: no score asks about them, and only stages that name them train on them."""
        return self.kind == UNLABELLED

    def check(self, at: str) -> None:
        """Raises ValueError for a name or a domain that results could not be called by."""
        check_name("data.sources.name", self.name)
        if self.domain in RESERVED_DOMAINS:
            raise ValueError(f"{at}.domain is {self.domain!r}, as the column mp5_{self.domain} is; name it otherwise")


@dataclass(frozen=True)
class DrawnWorld:
    """Synthetic images that the project draws from the recipe's seed, in the layouts of real data sets.

    Attributes:
        n_instances: Instances (classes) in each domain.
        n_views: Images of each instance.
        image_px: Longer side of an image.
        domains: Which of landmarks, products, artworks and toys.
        difficulty: 0..1: how far, blurred, dim and noisy things are seen, and in what weather.
    """

    n_instances: int = 24
    n_views: int = 8
    image_px: int = 128
    domains: tuple[str, ...] = ("landmarks", "products", "artworks", "toys")
    difficulty: float = 1.0


@dataclass(frozen=True)
class Limit:
    """How much of one source enters training, and how often it is drawn.

    Attributes:
        name: The source's.
        min_per_class: Its classes with fewer images leave training, in place of data.min_per_class; 0 keeps that
            (GLR2021-mini: 50).
        n_classes: So many classes, chosen by the seed; 0 takes all (5th place: 5,000 of GLDv2).
        n_images: At most so many images, taken from all classes in turn, so that small classes stay whole; 0 takes all.
        weight: Sampling weight of this source: 2.0 draws each of its images twice as often.
    """

    name: str
    n_classes: int = within(0, low=0, high=10**9)
    n_images: int = within(0, low=0, high=10**10)
    weight: float = within(1.0, low=1e-6, high=1e6)
    min_per_class: int = within(0, low=0, high=10**6)


@dataclass(frozen=True)
class Data:
    """Which images, how classes are balanced and split, and how images are packed.

    Attributes:
        sources: The data sets, each with its layout and folder.
        drawn: Synthetic images to draw before `sources` are read; None where the data sets are real.
        min_per_class: Classes with fewer images leave training (2nd place: 3).
        max_per_class: At most so many images of a class are kept for training (2nd place: 100).
        fill_per_class: Classes below this many rows are repeated up to it (2nd place: 20); 0 is off.
        limits: How much is taken of a source that would otherwise outnumber the others.
        distractors: Sources that are searched in validation and neither queried nor trained on.
        val_by: `class`: validation classes are never trained on; `image`: each training class lends images (seen-class
            validation).
        val_class_share: Share of every domain's classes that never enters training; by image, the share of each class's
            images.
        val_fold: Which of the disjoint shares is for validation: with a share of .2 the folds 0 to 4 are a
            cross-validation.
        foreign_domain: Domain of which nothing is trained on, fitted on or validated with, unlabelled images included;
            '' is none. `guie foreign` sets it. It changes no image that is packed, only what the doors after the
            packing read of them.
        licence: `any`, or `commercial`: sources whose licence is not known to allow commercial use are left out.
        pack_px: Shorter side of a packed image; smaller images are left as they are.
        pack_square: Packed images are squares of pack_px, whatever their aspect, as training squashes them.
        pack_loose: Packed images are files in folders of a thousand, not members of tar shards.
        jpeg_quality: Quality of packed images. An upright RGB JPEG that is small enough is not encoded again.
        shard_mb: Size of a tar shard.
        max_bad_share: More than this share of broken images stops the run.
        duplicate_bits: Pictures whose perceptual hashes differ in at most so many of 64 bits, and whose colours agree,
            are the same; 0 to 4; -1 compares the files' bytes alone.
    """

    sources: tuple[Source, ...]
    drawn: DrawnWorld | None = None
    min_per_class: int = within(2, low=1, high=10**6)
    max_per_class: int = 100
    fill_per_class: int = 0
    limits: tuple[Limit, ...] = ()
    distractors: tuple[str, ...] = ()
    val_by: Literal["class", "image"] = "class"
    val_class_share: float = within(0.5, low=0.01, high=0.99)
    val_fold: int = 0
    foreign_domain: str = ""
    licence: Literal["any", "commercial"] = "any"
    pack_px: int = within(320, low=16, high=8192)
    pack_square: bool = False
    pack_loose: bool = False
    jpeg_quality: int = within(95, low=1, high=100)
    shard_mb: int = within(1000, low=1, high=10**6)
    max_bad_share: float = within(0.05, low=0, high=1)
    duplicate_bits: int = within(4, low=-1, high=4)

    def check(self, at: str) -> None:
        """Raises ValueError where names stand twice or name no source, and for numbers that contradict each other."""
        if not self.sources:
            raise ValueError(f"{at}.sources is empty; name at least one data set")
        if all(source.is_unlabelled for source in self.sources):
            raise ValueError(f"{at}.sources are all of the kind {UNLABELLED!r}; add one with labels, to train and ask")
        names = [source.name for source in self.sources]
        check_unique(f"{at}.sources", names)
        check_unique(f"{at}.limits", [limit.name for limit in self.limits])
        check_range(f"{at}.max_per_class", self.max_per_class, self.min_per_class, 10**9)
        check_range(f"{at}.fill_per_class", self.fill_per_class, 0, self.max_per_class)
        check_range(f"{at}.val_fold", self.val_fold, 0, int(1 / self.val_class_share + 1e-9) - 1)
        for field, own in (("limits", [limit.name for limit in self.limits]), ("distractors", self.distractors)):
            for name in own:
                if name not in names:
                    raise ValueError(f"{at}.{field} names {name!r}, which is no source; {nearest(name, names)}")
                if any(source.is_unlabelled for source in self.sources if source.name == name):
                    raise ValueError(f"{at}.{field} names {name!r}, whose images have no labels; leave it out there")

    @property
    def names_of_trained(self) -> list[str]:
        """The names of the sources that stages train on: neither distractors nor unlabelled."""
        sources = [source for source in self.sources if not source.is_unlabelled]
        return [source.name for source in sources if source.name not in self.distractors]

    @property
    def names_of_unlabelled(self) -> list[str]:
        """The names of the sources without labels."""
        return [source.name for source in self.sources if source.is_unlabelled]

    @property
    def told_of_foreign(self) -> str:
        """The end of a message about images that are missing, where a domain is left out; else ''."""
        return f" (data.foreign_domain leaves {self.foreign_domain!r} out)" if self.foreign_domain else ""

    @property
    def domains_with_labels(self) -> list[str]:
        """The domains of the sources with labels, distractors included, sorted."""
        return sorted({source.domain for source in self.sources if not source.is_unlabelled})
