"""fifth_place: a frozen ViT-H and a thousand epochs of one linear layer with SAM, on cached features (.688 private).

Source: S. Ota, S. Yokoi and S. Yamaoka, arXiv 2210.09495, Kaggle topic 359161,
github.com/riron1206/kaggle-Google-Universal-Image-Embedding-Competition-5th-Place-Solution at 5c17b84.
The neck is batch norm without weights (epsilon 1e-6) and Linear 64; the objective is ArcFace with margin .5. The
optimizer is SAM (rho .05) around AdamW with learning rate 1e-2 and weight decay .1 on all weights; batches have 256
images. Three epochs of warm-up are followed by a cosine to epoch 1,000. The last learning rate is 1e-4 in the write-up
and 1e-6 in the code; this recipe follows the code. The epoch with the best score on classes that were not trained on is
kept; theirs was 650.
Data: 5,000 landmark classes of at most 50 images, all of Products-10K, 3,030 images of Food-101.

Different here:
- The three inputs of image size (worth .003) are sizes of packed images, whose shorter side is at most 512 px. Theirs
  are sizes of the originals.
- Views are chosen by aspect ratio, as theirs, but without their classifier of domains.
- GPR1200 includes its 200 classes from iNaturalist. They leave those out.
- Features are of the whole squashed image. Theirs are of one random crop of 90 to 100 % of the area.
- The learning rate changes at each step. Theirs changes once an epoch.

Hours: not stated, on V100 and RTX 3090. The features are computed once; after that an epoch of 400,000 images takes
seconds.
Machine: any with the features; one card to compute them. Score to expect: .688 on the private test, as published; not
run by us.
"""

from guie.recipe import (
    HEAD,
    ArcFace,
    Augment,
    Cosine,
    Data,
    Embed,
    Limit,
    Neck,
    Optim,
    Recipe,
    Stage,
    Stages,
    Start,
    Validation,
    Weighted,
)
from guie.recipes._winners import FOOD101, GLDV2, GPR1200, NO_CAP, PRODUCTS10K, VIT_H, ladder

FIRST = Stage(
    "s1_head",
    trains="head",
    image_px=224,
    start=Start(fresh=HEAD),
    neck=Neck(dropouts=(0.0,), has_norm=True, norm_eps=1e-6, has_size=True),
    objective=ArcFace(margin_rad=0.5),
    optim=Optim(
        n_epochs=1000,
        batch_size=256,
        lr=1e-2,
        weight_decay=0.1,
        has_full_decay=True,
        schedule=Cosine(warmup_share=0.003, end_share=1e-4),
        sam_rho=0.05,
    ),
    sampling=Weighted(power=0.0),
    augment=Augment(flip=0.0),
    validation=Validation(every_epochs=50, keeps_best=True),
)

RECIPE = Recipe(
    name="fifth_place",
    data=Data(
        sources=(GLDV2, PRODUCTS10K, GPR1200, FOOD101),
        limits=(Limit("gldv2", n_classes=5000, n_images=250_000, min_per_class=50), Limit("food101", n_images=3030)),
        max_per_class=NO_CAP,
        val_class_share=0.05,
        pack_px=512,
    ),
    model=VIT_H,
    stages=Stages(head=(FIRST,)),
    embed=Embed(settings=ladder(1024, FIRST, ("aspect", "aspect_pad"))),
)
