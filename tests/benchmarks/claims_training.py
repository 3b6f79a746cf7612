"""Claims about what is trained, and about the images of a batch."""

from __future__ import annotations

from dataclasses import replace

from claims_stages import LAYERS_PX, SCALE, WINNERS, all_weights, head, in_batches, on_the_vit
from claims_types import Arm, Claim, Images
from objectives_settings import VIT_RECIPE

from guie.recipe import ArcFace, CosFace, PerClass, Stage, Weighted

BERTON = "Berton et al., arXiv 2503.13045"
ROTH = "Roth et al., ICML 2020, arXiv 2002.08473"
GUIE = "GUIE 2022"
ON_VIT = (
    f"The shipped ViT-Ti at {LAYERS_PX} px, 2 epochs of batches of 64; the source's towers are 15 to 100 times as "
    "large. All seeds have the same unseen classes, because the ViT was distilled on the images of the others."
)
EQUAL_STEPS = "All sides have about 600 steps."


def _vit(*stages: Stage) -> Arm:
    return Arm(stages, model=VIT_RECIPE.model, has_first_split=True)


def _classifier_rate(objective: ArcFace | CosFace, name: str) -> Claim:
    return Claim(
        f"classifier_rate_{name}",
        "layers",
        says="A classifier's rate should be far above that of the weights below it.",
        source=f"{BERTON}: 1 beside 1e-6",
        setup=f"{type(objective).__name__} of scale 30 on cached features, the neck at .001; base: centres at .001; "
        "other: at .1",
        base=Arm((head(objective),)),
        other=Arm((head(replace(objective, center_lr_factor=100.0)),)),
        note="The source's weights below are a whole backbone.",
    )


LAYERS = (
    Claim(
        "full_tuning",
        "layers",
        says="Training all weights is better than training a head on a frozen backbone.",
        source=BERTON,
        setup="base: the head; other: the head, then all weights",
        base=_vit(on_the_vit()),
        other=_vit(on_the_vit(), all_weights()),
        note=ON_VIT,
    ),
    Claim(
        "all_blocks",
        "layers",
        says="Training all blocks is better than training the last ones.",
        source=BERTON,
        setup="base: the last 4 of 12 blocks; other: all",
        base=_vit(on_the_vit(), all_weights(open_blocks=4)),
        other=_vit(on_the_vit(), all_weights()),
        note=ON_VIT,
    ),
    Claim(
        "split_rates",
        "layers",
        says="A backbone rate far below the head's is better than one rate for both.",
        source=f"{GUIE}, 2nd place, arXiv 2210.08735: .713; .670 with a frozen backbone; naive unfreezing was worse",
        setup="base: both .001; other: the backbone 2e-4 (theirs 1e-7 beside 1e-4)",
        base=_vit(on_the_vit(), all_weights(1.0)),
        other=_vit(on_the_vit(), all_weights(0.2)),
        note=ON_VIT,
    ),
    Claim(
        "smaller_rate",
        "layers",
        says="A backbone rate of a hundredth of the head's is better than one of a fifth.",
        source=f"{GUIE}, 2nd, 3rd, 4th and 6th place: 1e-7 to 1e-5 beside 1e-4 and more",
        setup="base: factor .2; other: factor .01",
        base=_vit(on_the_vit(), all_weights(0.2)),
        other=_vit(on_the_vit(), all_weights(0.01)),
        note=ON_VIT,
    ),
    Claim(
        "smallest_rate",
        "layers",
        says="A backbone rate of a thousandth of the head's is better than one of a hundredth.",
        source=f"{GUIE}, 2nd place: .707 above .700 (.01 lower still); 6th place took it, too",
        setup="base: factor .01; other: factor .001",
        base=_vit(on_the_vit(), all_weights(0.01)),
        other=_vit(on_the_vit(), all_weights(0.001)),
        note=ON_VIT,
    ),
    Claim(
        "head_first",
        "layers",
        says="A head that is trained first protects the backbone: naive unfreezing is worse.",
        source=f"{GUIE}, 1st and 2nd place; LP-FT, Kumar et al., ICLR 2022; it did not help the 5th place",
        setup="base: all weights with a fresh head; other: the head first, then all",
        base=_vit(all_weights(is_first=True)),
        other=_vit(on_the_vit(), all_weights()),
        note=f"{ON_VIT} The other side has 20 epochs of the head on cached features more.",
    ),
    Claim(
        "fixed_head",
        "layers",
        says="While the backbone trains, the head should be fixed.",
        source=f"{GUIE}, 1st place",
        setup="base: the head, then all weights; other: the head, then the backbone alone at the same rate",
        base=_vit(on_the_vit(), all_weights()),
        other=_vit(on_the_vit(), all_weights(trains="backbone")),
        note=ON_VIT,
    ),
    _classifier_rate(WINNERS, "arcface"),
    _classifier_rate(CosFace(margin_cosine=0.35, scale=SCALE), "cosface"),
)


def _per_class(objective: str, n: int, min_images: int = 0) -> Arm:
    stage = head(objective, sampling=PerClass(images_per_class=n, power=-0.5))
    return Arm((stage,), images=Images(min_images=min_images))


MANY = 16
FEW_CLASSES = "Emoji (4 images a class) and Fruits-360 (15) do not train: with them the base would see copies."


def _one_per_class(objective: str) -> Claim:
    return Claim(
        f"one_per_class_{objective.lower()}",
        "sampling",
        says="Classification losses are best with one image per class in a batch.",
        source=BERTON,
        setup=f"{objective}; base: 4 images per class; other: 1",
        base=_per_class(objective, 4),
        other=_per_class(objective, 1),
    )


def _few_per_class(objective: str, short: str) -> Claim:
    return Claim(
        f"few_per_class_{short}",
        "sampling",
        says="Contrastive losses are best with 2 to 4 images per class.",
        source=BERTON,
        setup=f"{objective}, classes of {MANY} images or more; base: {MANY} images per class; other: 4",
        base=_per_class(objective, MANY, MANY),
        other=_per_class(objective, 4, MANY),
        note=FEW_CLASSES,
    )


SAMPLING = (
    _one_per_class("ArcFace"),
    _one_per_class("Softmax"),
    _few_per_class("MultiSimilarity", "ms"),
    _few_per_class("Contrastive", "contrastive"),
    Claim(
        "two_per_class_margin",
        "sampling",
        says="Two images per class are best for pair losses.",
        source=ROTH,
        setup="MarginLoss, classes of 8 images or more; base: 8 images per class; other: 2",
        base=_per_class("MarginLoss", 8, 8),
        other=_per_class("MarginLoss", 2, 8),
        note="Emoji have four images a class and do not train: with them the base would see copies.",
    ),
    Claim(
        "small_batch",
        "sampling",
        says="Below batches of 256 margin losses are better than contrastive ones.",
        source=BERTON,
        setup="batches of 32; base: MultiSimilarity; other: CosFace",
        base=Arm((in_batches("MultiSimilarity", 32),)),
        other=Arm((in_batches("CosFace", 32),)),
        note=EQUAL_STEPS,
    ),
    Claim(
        "large_batch",
        "sampling",
        says="From batches of 256 on contrastive losses are better than margin losses.",
        source=BERTON,
        setup="batches of 512; base: CosFace; other: MultiSimilarity",
        base=Arm((in_batches("CosFace", 512),)),
        other=Arm((in_batches("MultiSimilarity", 512),)),
        note=EQUAL_STEPS,
    ),
    Claim(
        "largest_batch",
        "sampling",
        says="From batches of 256 on contrastive losses are better than margin losses.",
        source=BERTON,
        setup="batches of 1,024; base: CosFace; other: MultiSimilarity",
        base=Arm((in_batches("CosFace", 1024),)),
        other=Arm((in_batches("MultiSimilarity", 1024),)),
        note=EQUAL_STEPS,
    ),
    Claim(
        "contrastive_needs_batch",
        "sampling",
        says="Contrastive losses gain from larger batches.",
        source=BERTON,
        setup="MultiSimilarity; base: batches of 32; other: 512",
        base=Arm((in_batches("MultiSimilarity", 32),)),
        other=Arm((in_batches("MultiSimilarity", 512),)),
        note=f"{EQUAL_STEPS} The other side sees 16 times as many images.",
    ),
    Claim(
        "balance",
        "sampling",
        says="Classes drawn alike often are better than images drawn alike often.",
        source=f"{GUIE}, 2nd place: at least 20 images a class, at most 100",
        setup="ArcFace of scale 30, images one by one; base: power 0; other: power -1",
        base=Arm((head(sampling=Weighted(power=0.0)),)),
        other=Arm((head(sampling=Weighted(power=-1.0)),)),
        note="Resampling alone: the 2nd place also dropped classes with fewer than three images.",
    ),
    Claim(
        "one_source",
        "sampling",
        says="Batches of one data set in turn are better than mixed ones.",
        source="UnED's round robin, Ypsilantis et al., ICCV 2023, arXiv 2309.01858",
        setup="ArcFace of scale 30; base: mixed batches; other: batches of one data set",
        base=Arm((head(sampling=Weighted()),)),
        other=Arm((head(sampling=Weighted(is_of_one_source=True)),)),
        note="One classifier over all classes; UnED's baseline has one for each data set. Turns give small "
        "domains more images than mixed batches do: clothing a quarter instead of about 5 %.",
    ),
)
