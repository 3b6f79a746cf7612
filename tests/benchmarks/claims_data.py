"""Claims about the training images: wrong labels, fewer classes or images, more domains."""

from __future__ import annotations

from dataclasses import replace

from claims_stages import head
from claims_training import BERTON, GUIE
from claims_types import Arm, Claim, Images

from guie.recipe import PerClass, Weighted

LITTLE = 0.02  # of mP@5: what "costs little" may cost
ARC = Arm((head("ArcFace"),))  # of scale 64, as objectives.py trains it
CONTRASTIVE = Arm((head("Contrastive"),))
ONE_BY_ONE = Arm((head("ArcFace", sampling=Weighted()),))  # some domains have fewer classes than a batch of classes
IN_PAIRS = Arm((head("ArcFace", sampling=PerClass(images_per_class=2, power=-0.5)),))  # half of a class may be two
DOMAINS = ("clothing", "emoji", "fruits", "grocery")
HALF_CLASSES = Images(class_share=0.5)
HALF_IMAGES = Images(image_share=0.5)
EQUAL_STEPS = "Fewer images are seen more often: both sides have the same number of steps."


def _wrong(arm: Arm, kind: str, share: float, is_confusable: bool) -> Claim:
    how = "confusable" if is_confusable else "random"
    is_meant = "the class of the nearest mean feature" if is_confusable else "any other class"
    random = "A wrong label is mostly of another domain, as most classes are."
    note = "The source's wrong labels are random; real ones are not. Ours." if is_confusable else random
    return Claim(
        f"wrong_{round(100 * share)}_{how}_{kind.lower()}",
        "data",
        says=f"{round(100 * share)} % {how} wrong labels cost little.",
        source=BERTON if not is_confusable else f"{BERTON}, asked further",
        setup=f"{kind}; base: right labels; other: {round(100 * share)} % of the images have the label of {is_meant}",
        base=arm,
        other=replace(arm, images=Images(wrong_share=share, is_confusable=is_confusable)),
        expected="no less",
        small=LITTLE,
        note=note,
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
        setup="ArcFace of scale 64; base: all classes; other: half of each domain's",
        base=ARC,
        other=replace(ARC, images=HALF_CLASSES),
        expected="less",
        note=EQUAL_STEPS,
    ),
    Claim(
        "quarter_classes",
        "data",
        says="A quarter of the classes costs more than half of them.",
        source=f"{BERTON}: the cost is linear",
        setup="ArcFace of scale 64; base: half of each domain's classes; other: a quarter",
        base=replace(ARC, images=HALF_CLASSES),
        other=replace(ARC, images=Images(class_share=0.25)),
        expected="less",
        note=f"{EQUAL_STEPS} Whether it is linear is not tested.",
    ),
    Claim(
        "fewer_classes_64d",
        "data",
        says="Fewer classes are better where the embedding has 64 numbers.",
        source=f"{GUIE}, 25th place: 4,000 classes were best",
        setup="ArcFace of scale 64, 64-d; base: all classes (about 500); other: half",
        base=ARC,
        other=replace(ARC, images=HALF_CLASSES),
        note=f"{EQUAL_STEPS} 500 classes may not fill 64 numbers.",
    ),
    Claim(
        "classes_not_images",
        "data",
        says="Classes matter more than images per class.",
        source="asked here; no source was found",
        setup="ArcFace of scale 64, 2 images per class; base: half of the classes; other: half of every class's images",
        base=replace(IN_PAIRS, images=HALF_CLASSES),
        other=replace(IN_PAIRS, images=HALF_IMAGES),
        note=EQUAL_STEPS,
    ),
    Claim(
        "fewer_images",
        "data",
        says="Fewer images per class cost.",
        source="asked here; no source was found",
        setup="ArcFace of scale 64, 2 images per class; base: all images; other: half of each class's",
        base=IN_PAIRS,
        other=replace(IN_PAIRS, images=HALF_IMAGES),
        expected="less",
        note=EQUAL_STEPS,
    ),
    *(
        Claim(
            f"more_domains_{domain}",
            "data",
            says=f"One model of many domains is as good on one of them ({domain}) as its specialist.",
            source="UnED, Ypsilantis et al., ICCV 2023; GUIE's premise",
            setup=f"ArcFace of scale 64, queries of {domain}; base: trained on it alone; other: on all four",
            base=replace(ONE_BY_ONE, images=Images(domains=(domain,))),
            other=ONE_BY_ONE,
            expected="no less",
            metric=f"mp5@{domain}",
            small=0.01,
            note=f"The index holds the images of all domains on both sides. {EQUAL_STEPS}",
        )
        for domain in DOMAINS
    ),
)
