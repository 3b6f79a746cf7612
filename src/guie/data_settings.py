"""The section `data` of a recipe: which images, how they are split, balanced and packed."""

from __future__ import annotations

from dataclasses import dataclass

RESERVED_DOMAINS = ("low", "high", "std", "control")  # mp5_low, mp5_high, mp5_std and mp5_control are columns of their own


@dataclass(frozen=True)
class Source:
    """One data set on disk.

    Attributes:
        name: What its rows are called in the manifest's `source` column.
        kind: Its layout: the name of a module in `guie.data.sources`.
        folder: Where it lies, relative to the data root.
        domain: The domain its images belong to; scores are averaged over domains with equal weight.
        licence: Its images' licence, where that is not the one known of its kind (`data_prep/00_fetch.py` lists those).
        is_commercial: Whether that licence allows commercial use; counts only with `licence`.
    """

    name: str
    kind: str
    folder: str
    domain: str
    licence: str = ""
    is_commercial: bool = False


@dataclass(frozen=True)
class DrawnWorld:
    """Images that the project draws itself from the recipe's seed, in the layouts of real data sets.

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
        min_per_class: Its classes with fewer images leave training, in place of data.min_per_class; 0 keeps that (GLR2021-mini: 50).
        n_classes: So many classes, chosen by the seed; 0 takes all (5th place: 5,000 of GLDv2).
        n_images: At most so many images, taken from all classes in turn, so that small classes stay whole; 0 takes all.
        weight: Its images are drawn so many times as often as without.
    """

    name: str
    n_classes: int = 0
    n_images: int = 0
    weight: float = 1.0
    min_per_class: int = 0


@dataclass(frozen=True)
class Data:
    """Which images, how classes are balanced and split, and how images are packed.

    Attributes:
        sources: The data sets, each with its layout and folder.
        drawn: Draw the world that `sources` reads first; None where the data sets are real.
        min_per_class: Classes with fewer images leave training (2nd place: 3).
        max_per_class: At most so many images of a class are kept for training (2nd place: 100).
        fill_per_class: Classes below this many rows are repeated up to it (2nd place: 20); 0 is off.
        limits: What is taken of sources that would drown the others.
        distractors: Sources that are searched in validation and neither queried nor trained on.
        val_by: `class`: validation classes are never trained on; `image`: each training class lends images (seen-class validation).
        val_class_share: Share of every domain's classes that never enters training; by image, the share of each class's images.
        val_fold: Which of the disjoint shares is for validation: with a share of .2 the folds 0 to 4 are a cross-validation.
        licence: `any`, or `commercial`: sources whose licence is not known to allow commercial use are left out.
        pack_px: Shorter side of a packed image; smaller images are left as they are.
        pack_square: Packed images are squares of pack_px, whatever their aspect, as training squashes them.
        pack_loose: Packed images are files in folders of a thousand, not members of tar shards.
        jpeg_quality: Quality of packed images.
        shard_mb: Size of a tar shard.
        max_bad_share: More than this share of broken images stops the run.
        duplicate_bits: Pictures whose perceptual hashes differ in at most so many of 64 bits, and whose colours agree, are the same; 0 to 4; -1
            compares the files' bytes alone.
    """

    sources: tuple[Source, ...]
    drawn: DrawnWorld | None = None
    min_per_class: int = 2
    max_per_class: int = 100
    fill_per_class: int = 0
    limits: tuple[Limit, ...] = ()
    distractors: tuple[str, ...] = ()
    val_by: str = "class"
    val_class_share: float = 0.5
    val_fold: int = 0
    licence: str = "any"
    pack_px: int = 320
    pack_square: bool = False
    pack_loose: bool = False
    jpeg_quality: int = 95
    shard_mb: int = 1000
    max_bad_share: float = 0.05
    duplicate_bits: int = 4
