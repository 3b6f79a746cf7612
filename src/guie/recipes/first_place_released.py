"""first_place_released: the 13 stages of the winner's published code (.728 private), which cannot run as published.

Source: github.com/ShihaoShao-GH/1st-Place-Solution-in-Google-Universal-Image-Embedding at c856c82.
We have read the code, not run it. Its lists are reset half-way, its class counts are taken from image counts, and
weights of one resolution are loaded into the model of another. This recipe does what the scripts are meant to do. The
objective is a cosine margin (CosFace) of scale 30: .55 on six sets without Products-10K, .65 on Products-10K alone. The
optimizer is SGD without momentum and warm-up, with weight decay 1e-4 on all weights. The classifier is trained first,
then the neck, then the backbone. Each higher resolution begins by training everything on the six sets. The code
prepares H&M but never uses it. All images of all classes are used. They used the full Google Landmarks v2. To use it,
provide only its train.csv: train_clean.csv is preferred if it is there.

Different here:
- Their batches of 256 and 32 images on each of four cards are batches of 1,024 and 128.
- Stages with a frozen backbone train on cached views (one plain, one mirrored, two augmented).
- A twentieth of each domain's classes is set aside for validation. They had no validation.
- JPEG compression comes after the other changes. Theirs comes before the affine change.
- The erased square lies inside the image. Theirs may extend over its edge.

Hours: not stated, with four processes.
Machine: four cards of 40 GB or more. Score to expect: .728 on the private test, as published for the weights; not run
by us.
"""

from dataclasses import replace

from guie.recipe import HEAD, CosFace, Cost, Embed, Optim, Part, Recipe, Sgd, Stage, Stages, Start, Steps, Weighted
from guie.recipes._winners import VIT_H, ladder
from guie.recipes.first_place import AUGMENT, DATA, PRODUCTS

SIX = tuple(source for source in DATA.sources if source.name not in (*PRODUCTS, "hm"))
ALL = tuple(source.name for source in SIX)
MARGINS_COSINE = {ALL: 0.55, PRODUCTS: 0.65}
CENTERS: tuple[Part, ...] = ("objective",)  # fresh where the data sets change
OVERLAP = 12  # pixels from one patch of 14 to the next


def optim(n_epochs: int, batch_size: int, lr: float, drops: tuple[int, ...]) -> Optim:
    """SGD without momentum, with a learning rate that drops in steps."""
    return Optim(
        n_epochs=n_epochs,
        batch_size=batch_size,
        lr=lr,
        method=Sgd(momentum=0.0),
        weight_decay=1e-4,
        has_full_decay=True,
        schedule=Steps(drops=drops, warmup_share=0.0),
        backbone_lr_factor=1.0,
    )


FROZEN = optim(6, 1024, 0.02, drops=(2, 4))
MOVING = optim(3, 128, 0.02 / 80, drops=(1,))


def row(
    name: str,
    trains: str,
    image_px: int,
    sources: tuple[str, ...],
    fresh: tuple[Part, ...] = (),
    patch_stride: int = 0,
) -> Stage:
    """One of their stages: six epochs with drops at 2 and 4 if the backbone is frozen, else three with a drop at 1."""
    is_frozen = trains not in ("backbone", "all")
    return Stage(
        name,
        trains=trains,  # type: ignore[arg-type]
        image_px=image_px,
        patch_stride=patch_stride,
        start=Start(fresh=fresh),
        objective=CosFace(margin_cosine=MARGINS_COSINE[sources]),
        optim=FROZEN if is_frozen else MOVING,
        sampling=Weighted(power=0.0),
        augment=AUGMENT,
        cost=Cost(n_cached_augmentations=2 if is_frozen else 0),
        sources=sources,
    )


LAST = row("s13_backbone_290_p10k", "backbone", 290, PRODUCTS, patch_stride=OVERLAP)

RECIPE = Recipe(
    name="first_place_released",
    data=replace(DATA, sources=tuple(source for source in DATA.sources if source.name != "hm")),
    model=VIT_H,
    stages=Stages(
        head=(row("s01_head", "head", 224, ALL, HEAD),),
        backbone=(
            row("s02_backbone", "backbone", 224, ALL),
            row("s03_classifier_p10k", "objective", 224, PRODUCTS, CENTERS),
            row("s04_neck_p10k", "neck", 224, PRODUCTS),
            row("s05_backbone_p10k", "backbone", 224, PRODUCTS),
        ),
        highres=(
            row("s06_all_280", "all", 280, ALL, CENTERS),
            row("s07_classifier_280_p10k", "objective", 280, PRODUCTS, CENTERS),
            row("s08_neck_280_p10k", "neck", 280, PRODUCTS),
            row("s09_backbone_280_p10k", "backbone", 280, PRODUCTS),
            row("s10_all_290_overlap", "all", 290, ALL, CENTERS, OVERLAP),
            row("s11_classifier_290_p10k", "objective", 290, PRODUCTS, CENTERS, OVERLAP),
            row("s12_neck_290_p10k", "neck", 290, PRODUCTS, patch_stride=OVERLAP),
            LAST,
        ),
    ),
    embed=Embed(settings=ladder(1024, LAST)),
)
