"""first_place_released: the 13 stages of the winner's published code (.728 private), which cannot run as published.

Source: github.com/ShihaoShao-GH/1st-Place-Solution-in-Google-Universal-Image-Embedding at c856c82, read, not run: lists reset half-way, class counts
taken from image counts, weights of one resolution loaded into another. This is what its scripts mean to do: a cosine margin (CosFace form)
of .55 on six sets without Products-10K, and of .65 on that alone; scale 30, SGD without momentum, weight decay 1e-4 of all weights, no warm-up;
classifier, then neck, then backbone; at each higher resolution everything on the six sets first. H&M is prepared there and never used. All images of
all classes; of Google Landmarks v2 the full set: give its train.csv alone, since train_clean.csv is preferred.

Different here. Batches of 256 and 32 a card are 1,024 and 128 over four. Stages with a frozen backbone train on cached views (one plain, one mirrored,
two changed). A twentieth of each domain's classes is set aside for validation; theirs validated nothing. JPEG comes last, theirs before the affine
change. Their fixed cut-out may hang over the image's edge.

Not stated: hours. Four processes.
Machine: four cards of 40 GB or more. Score to expect: .728 on the private test, as published for the weights; not run by us.
"""

from dataclasses import replace

from guie.recipe import Embed, EpochMargin, Recipe, Stage
from guie.recipes._winners import FRESH, VIT_H, ladder
from guie.recipes.first_place import AUGMENT, DATA, PRODUCTS

SIX = tuple(source for source in DATA.sources if source.name not in (*PRODUCTS, "hm"))
ALL = tuple(source.name for source in SIX)
MARGINS = {ALL: EpochMargin(0.55, 0.0, 0.55), PRODUCTS: EpochMargin(0.65, 0.0, 0.65)}
SLOW = 0.02 / 80


def row(name: str, phase: str, trains: str, image_px: int, sources: tuple[str, ...], fresh: tuple[str, ...] = (), patch_stride: int = 0) -> Stage:
    """A stage of theirs: six epochs with drops at 2 and 4 where the backbone is frozen, else three with one at 1."""
    is_frozen = trains not in ("backbone", "all")
    n_epochs, batch_size, lr, drops = (6, 1024, 0.02, (2, 4)) if is_frozen else (3, 128, SLOW, (1,))
    stage = Stage(name, phase, trains, image_px, n_epochs, batch_size, lr, fresh=fresh, classifier="cosface", margin=MARGINS[sources], sources=sources)
    stage = replace(
        stage, optimizer="sgd", momentum=0.0, weight_decay=1e-4, has_full_decay=True, schedule="step", drops=drops, warmup_share=0.0, sample_power=0.0
    )
    return replace(stage, backbone_lr_factor=1.0, n_cached_views=2 * is_frozen, augment=AUGMENT, patch_stride=patch_stride)


STAGES = (
    row("s01_head", "head", "head", 224, ALL, FRESH),
    row("s02_backbone", "backbone", "backbone", 224, ALL),
    row("s03_classifier_p10k", "backbone", "classifier", 224, PRODUCTS, ("classifier",)),
    row("s04_neck_p10k", "backbone", "neck", 224, PRODUCTS),
    row("s05_backbone_p10k", "backbone", "backbone", 224, PRODUCTS),
    row("s06_all_280", "highres", "all", 280, ALL, ("classifier",)),
    row("s07_classifier_280_p10k", "highres", "classifier", 280, PRODUCTS, ("classifier",)),
    row("s08_neck_280_p10k", "highres", "neck", 280, PRODUCTS),
    row("s09_backbone_280_p10k", "highres", "backbone", 280, PRODUCTS),
    row("s10_all_290_overlap", "highres", "all", 290, ALL, ("classifier",), 12),
    row("s11_classifier_290_p10k", "highres", "classifier", 290, PRODUCTS, ("classifier",), 12),
    row("s12_neck_290_p10k", "highres", "neck", 290, PRODUCTS, (), 12),
    row("s13_backbone_290_p10k", "highres", "backbone", 290, PRODUCTS, (), 12),
)

DATA = replace(DATA, sources=tuple(source for source in DATA.sources if source.name != "hm"))
RECIPE = Recipe(name="first_place_released", data=DATA, model=VIT_H, stages=STAGES, embed=Embed(settings=ladder(1024, STAGES[-1])))
