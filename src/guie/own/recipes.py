"""The two recipes that `guie train` makes of a folder of photos: one that is scored, one that is exported."""

from __future__ import annotations

from dataclasses import dataclass, replace

from guie.own.place import PHOTOS  # the name of the source and of its domain, too
from guie.recipe import (
    HEAD,
    ArcFace,
    Augment,
    Cost,
    Data,
    Embed,
    GrowingMargin,
    Member,
    Model,
    Neck,
    OneCycle,
    Optim,
    Recipe,
    Setting,
    Source,
    Stage,
    Stages,
    Start,
    load_recipe,
)

OFF_THE_SHELF, REDUCED, TRAINED = "off the shelf", "off the shelf, PCA-64", "trained"
DIM = 64
MARGIN_RAD = 0.3
# Over unit features, started as their PCA, with classes at their means, where before all was drawn at random: mP@5 of
# classes held back is .270 and .271 where it was .248 and .257 (clothing of ../shared/data, seeds 0 and 1), and .738
# where it was .731 (grocery, seed 0). tests/benchmarks/universal.md has more, on domains of no training, too.
NECK = Neck(dim=DIM, has_unit_input=True)
VIT = load_recipe("demo").model  # the shipped one
MAX_BAD_SHARE = 0.99  # photos that cannot be read are left out and named, however many they are
CLASS_SHARE = 0.5  # of the classes, for validation by class
IMAGE_SHARE = 0.2  # of each class's images, for validation by image


@dataclass(frozen=True)
class Wish:
    """What a person chose.

    Attributes:
        name: Of the run.
        tower: The network and its weights.
        image_px: Side of the square that it sees.
        has_backbone: Whether the backbone trains, too.
        seed: Decides which classes are held back.
    """

    name: str
    tower: Model = VIT
    image_px: int = 160
    has_backbone: bool = False
    seed: int = 0


def scored_recipe(wish: Wish, by_class: bool) -> Recipe:
    """The recipe whose score tells how good the training is.

    Args:
        wish: What a person chose.
        by_class: Half of the classes are held back; otherwise a fifth of each class's images.
    """
    data = Data(
        sources=(Source(PHOTOS, "csv_list", PHOTOS, PHOTOS),),
        min_per_class=1,
        max_bad_share=MAX_BAD_SHARE,
        val_by="class" if by_class else "image",
        val_class_share=CLASS_SHARE if by_class else IMAGE_SHARE,
        pack_px=max(wish.image_px, 224),
    )
    raw = Member("pretrained", wish.image_px, output="feature")
    settings = (
        Setting(OFF_THE_SHELF, (raw,)),
        Setting(REDUCED, (raw,), pca_dim=DIM),
        Setting(TRAINED, (Member(_last_stage(wish), wish.image_px, ("plain", "flip")),)),
    )
    stages = Stages(head=(_head(wish, "s1_head"),), backbone=_backbone_rows(wish))
    recipe = Recipe(name=wish.name, data=data, model=wish.tower, stages=stages, embed=Embed(settings), seed=wish.seed)
    return recipe.validate()


def exported_recipe(wish: Wish, best: str) -> Recipe:
    """The recipe that trains on all classes and exports the better setting.

    A fifth of the images of each class of four or more is left for the check of the export.

    Args:
        wish: What a person chose.
        best: Name of the setting that is exported, `TRAINED` or `REDUCED`.
    """
    recipe = scored_recipe(wish, by_class=False)
    settings = sorted(recipe.embed.settings, key=lambda setting: setting.name == best)
    return replace(recipe, embed=replace(recipe.embed, settings=tuple(settings))).validate()


def _last_stage(wish: Wish) -> str:
    return "s3_head" if wish.has_backbone else "s1_head"


def _head(wish: Wish, name: str) -> Stage:
    """A head-only stage on cached features. The neck starts as their PCA, class centres as means."""
    return Stage(
        name,
        trains="head",
        image_px=wish.image_px,
        start=Start(fresh=HEAD, has_pca_neck=True, has_mean_centers=True),
        neck=NECK,
        objective=ArcFace(margin_rad=GrowingMargin(start=0.1, step=0.05, max=MARGIN_RAD)),
        optim=Optim(n_epochs=30, batch_size=128, lr=2e-3, schedule=OneCycle(warmup_share=0.3)),
        cost=Cost(n_cached_augmentations=1),
        augment=Augment(flip=0.5, shift=0.05, scale=0.1, brightness=0.1),
    )


def _backbone_rows(wish: Wish) -> tuple[Stage, ...]:
    """The backbone with the head fixed, then a new head; nothing where the backbone stays as it is."""
    if not wish.has_backbone:
        return ()
    backbone = Stage(
        "s2_backbone",
        trains="backbone",
        image_px=wish.image_px,
        neck=NECK,
        objective=ArcFace(margin_rad=MARGIN_RAD),
        optim=Optim(n_epochs=4, batch_size=32, lr=1e-4, schedule=OneCycle(warmup_share=0.2)),
        augment=Augment(flip=0.5, shift=0.08, scale=0.15, rotate_deg=8, brightness=0.2, color=0.1),
    )
    return (backbone, _head(wish, "s3_head"))
