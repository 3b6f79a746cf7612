"""third_place: twenty necks averaged, sub-centre ArcFace, then one slow epoch of everything (.692 private).

Source: S. Aoki and Y. Namba, arXiv 2210.09296, github.com/YasumasaNamba/google-universal-image-embedding. Twenty
branches of dropout .01 to .20 and Linear 64, whose mean is one matrix at export; three centres a class; the feature
before the projection. The paper counts epochs, the code
tenths of one: 200 of those are the 20 epochs here, the ramp over 100 of them the warm-up of half; the learning rate
climbs to 8e-6 times the batch and then falls to .93 of itself in each tenth. Then everything at 1e-6, constant, margin
.3 to .5 over tenths of an epoch: here 2.5 epochs are two, with .3 and .5. GLR2021-mini is 8,000 classes (of 17,691 with
Products-10K) of at most 50 images; Products-10K is whole.

Different here. Batches of 1,600 and 64 images are ours, so the head's rate is, too; so are the colour jitter's
strengths, which are not stated, and the three cached views of the head's stage.

Hours: not stated; Colab TPU.
Machine: one card of 40 GB or more. Score to expect: .692 on the private test, as published; not run by us.
"""

from dataclasses import replace

from guie.recipe import (
    HEAD,
    Adam,
    ArcFace,
    Augment,
    Constant,
    Cost,
    Data,
    Embed,
    Exponential,
    GrowingMargin,
    Limit,
    Neck,
    Optim,
    Recipe,
    Stage,
    Stages,
    Start,
    Weighted,
)
from guie.recipes._winners import GLDV2, NO_CAP, PRODUCTS10K, VIT_H, ladder

BRANCHES = Neck(dropouts=tuple(n / 100 for n in range(1, 21)), is_branched=True)
AUGMENT = Augment(flip=0.5, brightness=0.1, color=0.2)
FIRST = Stage(
    "s1_head",
    trains="head",
    image_px=224,
    start=Start(fresh=HEAD),
    neck=BRANCHES,
    objective=ArcFace(margin_rad=0.3, n_sub_centers=3),
    optim=Optim(
        n_epochs=20,
        batch_size=1600,
        lr=8e-6 * 1600,
        method=Adam(),
        weight_decay=0.0,
        schedule=Exponential(epoch_decay=0.93**10, warmup_share=0.5),
    ),
    sampling=Weighted(power=0.0),
    augment=AUGMENT,
    cost=Cost(n_cached_augmentations=1),
)
ALL = Stage(
    "s2_all",
    trains="all",
    image_px=224,
    neck=BRANCHES,
    objective=ArcFace(margin_rad=GrowingMargin(start=0.3, step=0.2, max=0.5), n_sub_centers=3),
    optim=Optim(
        n_epochs=2,
        batch_size=64,
        lr=1e-6,
        method=Adam(),
        weight_decay=0.0,
        schedule=Constant(warmup_share=0.0),
        backbone_lr_factor=1.0,
    ),
    sampling=Weighted(power=0.0),
    augment=AUGMENT,
    cost=Cost(n_parts=2, has_grad_checkpoints=True),
)

RECIPE = Recipe(
    name="third_place",
    data=Data(
        sources=(GLDV2, PRODUCTS10K),
        limits=(
            Limit("gldv2", n_classes=8000, n_images=400_000, min_per_class=50),
        ),  # taken from all classes in turn: 50 of each
        max_per_class=NO_CAP,
        val_class_share=0.05,
        pack_px=256,
    ),
    model=replace(VIT_H, feature="unprojected"),
    stages=Stages(head=(FIRST,), backbone=(ALL,)),
    embed=Embed(settings=ladder(1280, ALL)),
)
