"""sixth_place: blocks 15 to 31 and head trained, sub-centres, margins by frequency, PCA (.685 private).

Source: S. Gkelios, A. Kastellos and S. Chatzichristofis, arXiv 2210.09377,
github.com/soc12/6th-Place-Solution-to-Google-Universal-Image-Embedding.
The neck is batch norm, dropout .2 and Linear 256. ArcFace has three centres a class. Its margins are .005 to .45 in the
paper, and .05 to .50 in the code. This recipe follows the code, also in batches of 32, constant learning rates (head
1e-4, backbone 1e-7), flip, brightness and contrast, an affine change, and JPEG. The optimizer is Adam, for four epochs,
on about 655,000 images of 43,625 classes. PCA reduces to 64-d.

Different here:
- PCA is fitted on the training images. Theirs was fitted on 130,000 images that resemble the test images.
- Pixels have CLIP's mean and std. Theirs have ImageNet's, in front of a CLIP backbone.
- Which sets are used, and how many classes of each, is our guess at their numbers; the caps are the recipes' defaults.
- Two of their changes are missing: a shift of the colours by up to 5 of 255, and a cut-out of small squares in a tenth
  of the images.
- The norm and the projection after the blocks are trained. Theirs are frozen.

Hours: not stated.
Machine: one card of 40 GB or more. Score to expect: .685 on the private test, as published; not run by us.
"""

from guie.recipe import (
    HEAD,
    Adam,
    ArcFace,
    Augment,
    ClassMargin,
    Constant,
    Data,
    Embed,
    Limit,
    Neck,
    Optim,
    Recipe,
    Stage,
    Stages,
    Start,
    Weighted,
)
from guie.recipes._winners import C2S, GLDV2, MET, PRODUCTS10K, RP2K, SHOPEE, SOP, VIT_H, ladder

ALL = Stage(
    "s1_all",
    trains="all",
    image_px=224,
    start=Start(fresh=HEAD),
    neck=Neck(dim=256, has_norm=True),
    objective=ArcFace(margin_rad=ClassMargin(low=0.05, high=0.5), n_sub_centers=3),
    optim=Optim(
        n_epochs=4,
        batch_size=32,
        lr=1e-4,
        method=Adam(),
        weight_decay=0.0,
        schedule=Constant(warmup_share=0.0),
        backbone_lr_factor=1e-3,
        open_blocks=17,
    ),
    sampling=Weighted(power=0.0),
    augment=Augment(
        flip=0.5,
        shift=0.2,
        scale=0.2,
        rotate_deg=30,
        affine=0.7,
        brightness=0.1,
        has_black_fill=True,
        jpeg=0.5,
        jpeg_low=99,
        jpeg_high=100,
    ),
)

RECIPE = Recipe(
    name="sixth_place",
    data=Data(
        sources=(GLDV2, PRODUCTS10K, SHOPEE, RP2K, SOP, C2S, MET),
        limits=(Limit("gldv2", n_classes=10000), Limit("met", n_classes=10000)),
        val_class_share=0.05,
        pack_px=256,
    ),
    model=VIT_H,
    stages=Stages(backbone=(ALL,)),
    embed=Embed(settings=ladder(1024, ALL)),
)
