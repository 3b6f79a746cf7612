"""unifex_2024: a frozen SigLIP at 384 px and ten epochs of one linear layer, two years after the contest (.721).

Source: M. Florek et al., GCPR 2024, arXiv 2409.13513, github.com/morrisfl/UniFEx.
The backbone is timm's SoViT-400M/14, 1152-d. The neck is dropout .2 and Linear 64. The objective is ArcFace with margin
.5, scale 30 and three centres a class. The optimizer is Adam with weight decay 1e-4 and batches of 128; after one epoch
of warm-up the learning rate falls from 2e-2 to 1e-3 along a cosine. The data are its M4D-35k: Products-10K, 79,000
images of 10,000 landmarks, Consumer-to-shop, and cars, labelled by colour there and by model here. .721 is the mean of
the public and the private score of a late submission.

Hours: not stated; 431 M parameters, of which 2.3 M train.
Machine: one card of 16 GB or more. Score to expect: .721, as published; not run by us.
"""

from guie.recipe import (
    HEAD,
    Adam,
    ArcFace,
    Augment,
    Cosine,
    Data,
    Embed,
    Limit,
    Member,
    Model,
    Optim,
    Recipe,
    Setting,
    Stage,
    Stages,
    Start,
    Weighted,
)
from guie.recipes._winners import C2S_KAGGLE, CARS, GLDV2, PRODUCTS10K

FIRST = Stage(
    "s1_head",
    trains="head",
    image_px=384,
    start=Start(fresh=HEAD),
    objective=ArcFace(margin_rad=0.5, n_sub_centers=3),
    optim=Optim(n_epochs=10, batch_size=128, lr=2e-2, method=Adam(), schedule=Cosine(warmup_share=0.1, end_share=0.05)),
    sampling=Weighted(power=0.0),
    augment=Augment(flip=0.5),
)

RECIPE = Recipe(
    name="unifex_2024",
    data=Data(
        sources=(PRODUCTS10K, GLDV2, C2S_KAGGLE, CARS),
        limits=(Limit("gldv2", n_classes=10000, n_images=79200),),
        val_class_share=0.05,
        pack_px=384,
    ),
    model=Model("timm", "vit_so400m_patch14_siglip_384", "pretrained:webli"),  # the library's mean and std are .5
    stages=Stages(head=(FIRST,)),
    embed=Embed(
        settings=(
            Setting("off the shelf, 1152-d", (Member("pretrained", 384, output="feature"),)),
            Setting("head-only 64-d", (Member("s1_head", 384),)),
        )
    ),
)
