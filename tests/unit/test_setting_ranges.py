"""The range of every number of a recipe.

The numbers are typed from the tables that stood apart from the fields until settings were nested: a range that got lost
or changed with the move is seen here.
"""

import math
import typing
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
from trees import Leaf, classes, every_kind, put, walk

from guie.recipe import CosFace, Recipe
from guie.settings.objectives.kind import Kind

MARGIN = (0.0, 1.57)
CENTERS = {
    "scale": (1e-3, 1e4),
    "label_smoothing": (0.0, 0.99),
    "n_sub_centers": (1, 100),
    "center_lr_factor": (0.0, 1e6),
}
# By class and field. Of STAGE_RANGES and what stood beside it:
RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "Recipe": {"seed": (0, 2**31 - 1)},
    "Stage": {"image_px": (8, 4096), "patch_stride": (0, 4096)},
    "Optim": {
        "n_epochs": (1, 10**6),  # a soup had 0
        "batch_size": (1, 10**6),
        "lr": (1e-12, 100.0),
        "weight_decay": (0.0, 10.0),
        "backbone_lr_factor": (0.0, 1e3),
        "clip_norm": (0.0, 1e6),
        "ema_decay": (0.0, 0.999999),
        "sam_rho": (0.0, 10.0),
        "open_blocks": (0, 1000),
    },
    "Sgd": {"momentum": (0.0, 0.9999)},
    "OneCycle": {"warmup_share": (0.0, 1.0)},
    "Cosine": {"warmup_share": (0.0, 1.0), "end_share": (0.0, 1.0)},
    "Steps": {"warmup_share": (0.0, 1.0)},
    "Exponential": {"warmup_share": (0.0, 1.0), "epoch_decay": (1e-6, 1.0)},
    "Constant": {"warmup_share": (0.0, 1.0)},
    "LayerDecay": {"factor": (0.01, 1.0)},
    "BlockFactors": {"factors": (0.0, 1e3)},  # there was none; it is that of backbone_lr_factor
    "ArcFace": {"margin_rad": MARGIN} | CENTERS,
    "CosFace": {"margin_cosine": MARGIN} | CENTERS,
    "Softmax": CENTERS,
    "GrowingMargin": {"start": MARGIN, "step": MARGIN, "max": MARGIN},
    "ClassMargin": {"low": MARGIN, "high": MARGIN, "power": (-10.0, 0.0)},
    "SemiHard": {"margin_distance": (0.0, 2.0)},
    "DistanceWeighted": {"cutoff_distance": (1e-3, 2.0), "max_distance": (1e-3, 2.0)},
    "MultiSimilarityMiner": {"epsilon_cosine": (-1.0, 2.0)},
    "Memory": {"size": (1, 10**7), "start_step": (0, 10**9)},
    "Neck": {
        "dim": (1, 10**5),
        "dropouts": (0.0, 0.99),
        "hidden_dim": (0, 10**5),
        "norm_eps": (1e-12, 1.0),
    },
    "Weighted": {"power": (-1.0, 0.0)},
    "PerClass": {
        "power": (-1.0, 0.0),
        "images_per_class": (1, 10**4),
        "views_per_image": (1, 100),
    },  # 0 drew images singly, as Weighted does
    "Retain": {"features_weight": (0.0, 1e6), "weights_weight": (0.0, 1e9)},
    "Interpolate": {"shares": (0.0, 1.0)},
    "Fold": {"number": (1, 100), "of": (2, 100)},
    "Cost": {"n_parts": (1, 10**4), "n_cached_augmentations": (0, 1000), "patch_drop": (0.0, 0.95)},
    "Validation": {"every_epochs": (0, 10**6)},
    # Of AUGMENT_HIGH:
    "Augment": {
        "flip": (0, 1.0),
        "shift": (0, 0.5),
        "scale": (0, 0.9),
        "rotate_deg": (0, 180.0),
        "affine": (0, 1.0),
        "brightness": (0, 1.0),
        "color": (0, 1.0),
        "cutout": (0, 1.0),
        "cutout_low": (0, 1.0),
        "cutout_high": (0, 1.0),
        "jpeg": (0, 1.0),
        "jpeg_low": (0, 100),
        "jpeg_high": (0, 100),
        "randaugment": (0, 14),
        "randaugment_strength": (0, 1.0),
    },
    # Of POST_RANGES:
    "PostProcess": {
        "n_expanded": (0, 1000),
        "n_augmented": (0, 1000),
        "alpha": (0.0, 100.0),
        "rerank_k1": (0, 1000),
        "rerank_k2": (1, 1000),
        "rerank_weight": (0.0, 1.0),
        "length_mix": (0.0, 1.0),
    },
    # Of the rules of data, embed and export:
    "Data": {
        "min_per_class": (1, 10**6),
        "val_class_share": (0.01, 0.99),
        "pack_px": (16, 8192),
        "jpeg_quality": (1, 100),
        "shard_mb": (1, 10**6),
        "max_bad_share": (0, 1),
        "duplicate_bits": (-1, 4),
    },
    "Limit": {
        "n_classes": (0, 10**9),
        "n_images": (0, 10**10),
        "min_per_class": (0, 10**6),
        "weight": (1e-6, 1e6),
    },
    "Member": {"weight": (0.0, 1e3), "image_px": (8, 4096), "patch_stride": (0, 4096)},
    "Setting": {"pca_dim": (0, 10**5), "whiten": (0.0, 1.0), "power": (0.01, 1.0)},
    "Embed": {"batch_size": (1, 10**6), "dim": (0, 10**5)},
    "FitImages": {"weight": (1e-6, 1e6)},
    "FitWords": {"weight": (1e-6, 1e6)},
    "Export": {"n_parity_images": (1, 10**6), "min_parity_cosine": (0.0, 1.0)},
}
# Numbers whose bounds are other fields or a rule of the class, tried in test_recipe.py, and those of the drawn world.
OTHERWISE = {
    "Data": {"max_per_class", "fill_per_class", "val_fold"},
    "Model": {"mean", "std"},
    "Steps": {"drops"},
    "BlockFactors": {"edges"},
    "DrawnWorld": {"n_instances", "n_views", "image_px", "difficulty"},
}


def takes_numbers(hint: Any) -> bool:
    """Whether a field's type is int or float, a tuple of those, or a union with them."""
    return hint in (int, float) or any(map(takes_numbers, typing.get_args(hint)))


def test_every_number_has_the_range_that_it_had():
    for kind in classes():
        hints = typing.get_type_hints(kind)
        numbers = {field.name for field in fields(kind) if takes_numbers(hints[field.name])}
        if issubclass(kind, Kind) and kind.__name__ not in RANGES:  # a new kind of objective
            assert all("range" in field.metadata for field in fields(kind) if field.name in numbers), kind
            continue
        own = RANGES.get(kind.__name__, {})
        assert numbers == own.keys() | OTHERWISE.get(kind.__name__, set()), kind
        ranges = {field.name: field.metadata["range"] for field in fields(kind) if "range" in field.metadata}
        assert ranges == own, kind
    assert sum(map(len, RANGES.values())) == 110


def places() -> list[tuple[Leaf, float, float]]:
    """One place of each number with a range, in a recipe that holds every class of settings."""
    found = {leaf.key: leaf for leaf in walk(holder()) if leaf.key[1] in RANGES.get(leaf.key[0], {})}
    return [(leaf, *RANGES[kind][name]) for (kind, name), leaf in found.items()]


def holder() -> Recipe:
    """The recipe with a number for CosFace's margin, too."""
    return put(every_kind(), "stages.s3.objective", CosFace(0.2))


def outside(leaf: Leaf, low: float, high: float) -> Iterator[float]:
    """The numbers next to a range, of the field's type, and those that no range holds."""
    if leaf.hint is int:
        yield from (int(low) - 1, int(high) + 1)
    else:
        yield from (math.nextafter(low, -math.inf), math.nextafter(high, math.inf), math.inf, -math.inf, math.nan)


def test_every_range_is_tried_somewhere():
    tried = {leaf.key for leaf, *_ in places()}
    assert tried == {(kind, name) for kind, own in RANGES.items() for name in own}


@pytest.mark.parametrize(("leaf", "low", "high"), places(), ids=lambda value: getattr(value, "path", ""))
def test_number_outside_its_range_is_refused_with_path_value_and_range(leaf: Leaf, low: float, high: float):
    for number in outside(leaf, low, high):
        value = (0.1, number) if isinstance(leaf.value, tuple) else number
        with pytest.raises(ValueError) as caught:
            put(holder(), leaf.path, value).validate()
        assert str(caught.value) == f"{leaf.path} is {number}, must be {low} to {high}"


@pytest.mark.parametrize(("leaf", "low", "high"), places(), ids=lambda value: getattr(value, "path", ""))
def test_ends_of_a_range_are_in_it(leaf: Leaf, low: float, high: float):
    for number in (low, high):
        value = (0.1, number) if isinstance(leaf.value, tuple) else number
        try:
            put(holder(), leaf.path, value).validate()
        except ValueError as error:  # of another rule, which follows from another field
            assert str(error) != f"{leaf.path} is {number}, must be {low} to {high}"


def test_a_number_that_is_no_number_is_told_as_such():
    for wrong in ("0.1", None, [0.1], (0.1,)):
        with pytest.raises(ValueError, match=r"^stages.s1.optim.lr is .* must be a number"):
            put(every_kind(), "stages.s1.optim.lr", wrong).validate()
    with pytest.raises(ValueError, match=r"^stages.s3.optim.blocks.factors is 1001.0, must be 0.0 to 1000.0$"):
        put(every_kind(), "stages.s3.optim.blocks.factors", (0.1, 1001.0)).validate()
