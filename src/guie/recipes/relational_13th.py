"""relational_13th: a 256-d tower teaches a 64-d one the geometry of its embeddings (13th place, .666 private).

Source: Kaggle topic 359341, github.com/StarrySky-SHT/GUIE-13th-place-solution at d2f3818 (train_retrieval.py,
train_distill.py). The teacher is ViT-H/14 (1024-d), dropout .2, Linear 256 and batch norm with ArcFace (margin .5,
scale 30). Its last 8 of 32 blocks train with Adam, weight decay 1e-6 and a learning rate of 1e-5, the head with 1e-3,
along a cosine without warm-up, in batches of 640 (80 images, gradients of eight batches added). The student is the same
pretrained tower, with Linear 256, Linear 64 and batch norms between. It sees no labels: its loss is relational
distillation (Park et al., CVPR 2019, arXiv 1904.05068). It compares the distances of all pairs, plus twice the angles
of all triplets, with those of the teacher. The learning rate is 1e-5 for all weights that train.

Published, public and private: 64-d trained directly .644 and .654; the teacher's 256 numbers pooled to 64 .641
(public); distilled .663 and .666.

Different here:
- The relations are cosines of all pairs (`KeepCosines`) instead of distances and angles.
- The teacher sees plain images. Theirs sees the student's augmented ones.
- The neck has no batch norm, and one linear layer of 64.
- Data: Products-10K and 415 landmark classes, the two largest of their six lists. Their small lists of art, dishes,
  furniture and storefronts are left out.
- Crops of 90 to 100 % of the area are replaced by shifts and changes of scale. Pixels have CLIP's mean and std. Theirs
  have ImageNet's.
- 10 epochs, as in the released file; a later version of it has 50.

Hours: not stated.
Machine: one card of 40 GB or more (estimated). Score to expect: .666 on the private test, as published; not run by us.
"""

from guie.recipe import (
    HEAD,
    Adam,
    ArcFace,
    Augment,
    Cosine,
    Cost,
    Data,
    Embed,
    KeepCosines,
    Limit,
    Member,
    Neck,
    Optim,
    Recipe,
    Setting,
    Stage,
    Stages,
    Start,
    Weighted,
)
from guie.recipes._winners import GLDV2, NO_CAP, PRODUCTS10K, VIT_H

AUGMENT = Augment(
    flip=0.5, shift=0.2, scale=0.2, rotate_deg=10, affine=0.3, cutout=0.5, cutout_low=0.4, has_black_fill=True
)
TEACHER = Stage(
    "s1_teacher",
    trains="all",
    image_px=224,
    start=Start(fresh=HEAD),
    neck=Neck(dim=256),
    objective=ArcFace(margin_rad=0.5, scale=30.0),
    optim=Optim(
        n_epochs=10,
        batch_size=640,
        lr=1e-3,
        method=Adam(),
        weight_decay=1e-6,
        has_full_decay=True,
        schedule=Cosine(warmup_share=0.0, end_share=0.01),
        backbone_lr_factor=0.01,
        open_blocks=8,
    ),
    sampling=Weighted(power=0.0),
    augment=AUGMENT,
    cost=Cost(n_parts=8),
)
STUDENT = Stage(
    "s2_student",
    trains="all",
    image_px=224,
    start=Start(of="pretrained", fresh=HEAD),
    objective=KeepCosines(weight=1.0, of="s1_teacher"),
    optim=Optim(
        n_epochs=10,
        batch_size=640,
        lr=1e-5,
        method=Adam(),
        weight_decay=1e-6,
        has_full_decay=True,
        schedule=Cosine(warmup_share=0.0, end_share=0.01),
        backbone_lr_factor=1.0,
        open_blocks=8,
    ),
    sampling=Weighted(power=0.0),
    augment=AUGMENT,
    cost=Cost(n_parts=8),
)

RECIPE = Recipe(
    name="relational_13th",
    data=Data(
        sources=(PRODUCTS10K, GLDV2),
        limits=(Limit("gldv2", n_classes=415),),
        max_per_class=NO_CAP,
        val_class_share=0.05,
        pack_px=256,
    ),
    model=VIT_H,
    stages=Stages(backbone=(TEACHER, STUDENT)),
    embed=Embed(
        settings=(
            Setting("off the shelf, 1024-d", (Member("pretrained", 224, output="feature"),)),
            Setting("teacher, 256-d", (Member("s1_teacher", 224),)),
            Setting("teacher, PCA-64", (Member("s1_teacher", 224),), pca_dim=64),
            Setting("student, 64-d", (Member("s2_student", 224),)),
        )
    ),
)
