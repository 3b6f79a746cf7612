"""reality_check: four models of class-disjoint folds, scored one by one and concatenated (score not known).

Source: Musgrave, Belongie and Lim, A Metric Learning Reality Check, ECCV 2020, arXiv 2003.08505, and the documentation
of its benchmark: the training classes are divided into four folds; each of four models trains on three of them, and its
epoch is chosen by the score on the fourth; batches of 32 with four images of a class, 128-d, weight decay 1e-4.
`separated` is the mean of the scores of the four models, `concatenated` the score of their normalised 128-d embeddings
side by side, 512-d. The margins of the contrastive loss are within the range that the source found by search.

Published (CUB, concatenated, from memory of the project's notes, not checked): contrastive R@1 .681 and MAP@R .265;
the pretrained network .511 and .142. On Stanford Online Products its numbers are not in the notes.

Different here:
- ResNet-50 instead of BN-Inception, which timm does not have.
- Adam at 1e-5 instead of RMSprop at 1e-6.
- The best of 30 epochs on the fold is kept. The source ends a run when its fold no longer improves.
- Crops of random size are replaced by moves and scalings.
- The classes are split by the seed. The export is the concatenation reduced to 64-d, the contest's limit.

`separated` is the mean of the four rows `fold 1` to `fold 4` of `scores.csv`. The reported scores are those of the
validation classes. They take part in no choice.

Machine: one card of 16 GB (estimated). Score to expect: about .75 in R@1 for the concatenation, a guess; not run by us.
"""

from guie.recipe import (
    HEAD,
    Adam,
    Constant,
    DistanceContrastive,
    Embed,
    Fold,
    Member,
    Neck,
    Optim,
    PerClass,
    Recipe,
    Setting,
    Stage,
    Stages,
    Start,
    Validation,
)
from guie.recipes._retrieval import CROPS, ONLINE_PRODUCTS, RESNET50

N_FOLDS = 4
IMAGE_PX = 224


def of_fold(number: int) -> Stage:
    """The model that leaves out one fold.

    Args:
        number: From 1.
    """
    return Stage(
        f"s{number}_fold",
        trains="all",
        image_px=IMAGE_PX,
        start=Start(of="pretrained", fresh=HEAD),
        neck=Neck(dim=128, dropouts=(0.0,)),
        objective=DistanceContrastive(negative_margin_distance=0.5),
        optim=Optim(
            n_epochs=30,
            batch_size=32,
            lr=1e-5,
            method=Adam(),
            weight_decay=1e-4,
            backbone_lr_factor=1.0,
            schedule=Constant(0.0),
        ),
        sampling=PerClass(images_per_class=4, power=-1.0),
        augment=CROPS,
        validation=Validation(every_epochs=1, keeps_best=True),
        left_out=Fold(number=number, of=N_FOLDS),
    )


FOLDS = tuple(of_fold(number) for number in range(1, N_FOLDS + 1))
MEMBERS = tuple(Member(stage.name, IMAGE_PX) for stage in FOLDS)

RECIPE = Recipe(
    name="reality_check",
    data=ONLINE_PRODUCTS,
    model=RESNET50,
    stages=Stages(backbone=FOLDS),
    embed=Embed(
        settings=(
            Setting("off the shelf, 2048-d", (Member("pretrained", IMAGE_PX, output="feature"),)),
            *(Setting(f"fold {number}, 128-d", (member,)) for number, member in enumerate(MEMBERS, start=1)),
            Setting("concatenated, 512-d", MEMBERS),
            Setting("concatenated, PCA-64", MEMBERS, pca_dim=64),
        )
    ),
)
