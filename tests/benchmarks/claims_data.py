"""Claims about the training images: wrong labels, fewer classes or images, more domains."""

from __future__ import annotations

from dataclasses import replace

from claims_stages import head
from claims_training import BERTON, GUIE
from claims_types import Arm, Claim, Images

from guie.recipe import Weighted

LITTLE = 0.02  # of mP@5: what "costs little" may cost
ARC = Arm((head("ArcFace"),))
CONTRASTIVE = Arm((head("Contrastive"),))
ONE_BY_ONE = Arm((head("ArcFace", sampling=Weighted()),))  # some domains have fewer classes than a batch of classes
DOMAINS = ("clothing", "emoji", "fruits", "grocery")
HALF_CLASSES = replace(ARC, images=Images(class_share=0.5))
HALF_IMAGES = replace(ARC, images=Images(image_share=0.5))


def _wrong(arm: Arm, kind: str, share: float, is_confusable: bool) -> Claim:
    how = "confusable" if is_confusable else "random"
    is_meant = "the class of the nearest mean feature" if is_confusable else "any other class"
    critic = "" if not is_confusable else "The source's wrong labels are random; real ones are not. Ours."
    return Claim(
        f"wrong_{round(100 * share)}_{how}_{kind.lower()}",
        "data",
        says=f"{round(100 * share)} % {how} wrong labels cost little.",
        source=BERTON if not is_confusable else f"{BERTON}, asked further",
        setup=f"{kind}; base: right labels; other: {round(100 * share)} % of the images have the label of {is_meant}",
        base=arm,
        other=replace(arm, images=Images(wrong_share=share, is_confusable=is_confusable)),
        expected="alike",
        small=LITTLE,
        note=critic,
    )


WRONG = tuple(
    _wrong(arm, kind, share, is_confusable)
    for arm, kind in ((ARC, "ArcFace"), (CONTRASTIVE, "Contrastive"))
    for is_confusable in (False, True)
    for share in (0.08, 0.16, 0.32)
)
DATA = (
    *WRONG,
    Claim(
        "fewer_classes",
        "data",
        says="Fewer training classes cost.",
        source=BERTON,
        setup="ArcFace; base: all classes; other: half of each domain's",
        base=ARC,
        other=HALF_CLASSES,
        expected="less",
    ),
    Claim(
        "quarter_classes",
        "data",
        says="The cost is linear: a quarter of the classes costs more than half of them.",
        source=BERTON,
        setup="ArcFace; base: half of each domain's classes; other: a quarter",
        base=HALF_CLASSES,
        other=replace(ARC, images=Images(class_share=0.25)),
        expected="less",
    ),
    Claim(
        "fewer_classes_64d",
        "data",
        says="Fewer classes are better where the embedding has 64 numbers.",
        source=f"{GUIE}, 25th place: 4,000 classes were best",
        setup="ArcFace, 64-d; base: all classes (about 500); other: half",
        base=ARC,
        other=HALF_CLASSES,
        note="The source had 4,000 of some 10,000 classes; 500 may not fill 64 numbers.",
    ),
    Claim(
        "classes_not_images",
        "data",
        says="Classes matter more than images per class.",
        source=f"{GUIE}, breadth over depth; {BERTON}",
        setup="ArcFace; base: half of the classes; other: half of the images of every class",
        base=HALF_CLASSES,
        other=HALF_IMAGES,
    ),
    Claim(
        "fewer_images",
        "data",
        says="Fewer images per class cost.",
        source=BERTON,
        setup="ArcFace; base: all images; other: half of each class's, at least two",
        base=ARC,
        other=HALF_IMAGES,
        expected="less",
    ),
    *(
        Claim(
            f"more_domains_{domain}",
            "data",
            says=f"One model of many domains is as good on one of them ({domain}) as its specialist.",
            source="UnED, Ypsilantis et al., ICCV 2023; GUIE's premise",
            setup=f"ArcFace, queries of {domain}; base: trained on it alone; other: on all four",
            base=replace(ONE_BY_ONE, images=Images(domains=(domain,))),
            other=ONE_BY_ONE,
            expected="alike",
            metric=f"mp5@{domain}",
            small=0.01,
            note="The index holds the images of all domains on both sides.",
        )
        for domain in DOMAINS
    ),
)
