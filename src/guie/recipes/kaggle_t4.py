"""kaggle_t4: the best that fits two cards of 16 GB in nine hours: a ViT-H head on cached features, then its last half,
then 280 px.

Source: the 5th place's frozen head, the 2nd's and 6th's learning rates, the 1st's higher resolution; Products-10K and
120,000 landmark images.

Time, for 250,000 training images, from a ViT-H/14's 0.33 TFLOP for an image at 224 px (0.52 at 280) and 25 TFLOP/s that
a T4 may be expected to keep in fp16 of its 65: forward 75 images/s a card, so the cached features of two views take 55
minutes on two cards and the head a few. The last 16 of 32 blocks: forward and backward with checkpoints are 0.33 + 3 *
0.17 = 0.83 TFLOP, 30 images/s a card, 70 minutes. At 280 px: features 90 minutes. With packing, validation, ensemble
and export about six and a half of nine hours. Memory: weights 2.5 GB in fp32; gradients and Adam's moments of 316 M
open parameters 3.8 GB; activations of 16 images with checkpoints below 4 GB: about 11 of 16 GB. These are estimates
from arithmetic; nobody has timed this recipe on those cards yet.

Start it as: accelerate launch --num_processes 2 src/05_train_backbone.py --recipe kaggle_t4
Machine: two T4 of 16 GB, nine hours. Score to expect: not measured, and nothing is known of it.
"""

from guie.recipe import (
    HEAD,
    ArcFace,
    Augment,
    Cosine,
    Cost,
    Data,
    Embed,
    GrowingMargin,
    Limit,
    Member,
    OneCycle,
    Optim,
    Recipe,
    Setting,
    Stage,
    Stages,
    Start,
)
from guie.recipes._winners import GLDV2, PRODUCTS10K, VIT_H


def head(name: str, image_px: int, n_epochs: int) -> Stage:
    """A head-only stage on cached features."""
    return Stage(
        name,
        trains="head",
        image_px=image_px,
        start=Start(fresh=HEAD),
        objective=ArcFace(margin_rad=GrowingMargin(start=0.1, step=0.1, max=0.5)),
        optim=Optim(n_epochs=n_epochs, batch_size=512, lr=1e-3, schedule=OneCycle(warmup_share=0.2)),
        augment=Augment(flip=0.5),
    )


LAST_BLOCKS = Stage(
    "s2_last_blocks",
    trains="all",
    image_px=224,
    objective=ArcFace(margin_rad=0.5),
    optim=Optim(n_epochs=1, batch_size=64, lr=1e-4, schedule=Cosine(), backbone_lr_factor=1e-3, open_blocks=16),
    augment=Augment(flip=0.5, scale=0.1, rotate_deg=10, brightness=0.1),
    cost=Cost(n_parts=2, has_grad_checkpoints=True),
)
PAIR = (Member("s2_last_blocks", 224, ("plain", "flip")), Member("s3_head_280", 280))

RECIPE = Recipe(
    name="kaggle_t4",
    data=Data(
        sources=(GLDV2, PRODUCTS10K),
        limits=(Limit("gldv2", n_classes=7000, n_images=120000),),
        val_class_share=0.05,
        pack_px=280,
    ),
    model=VIT_H,
    stages=Stages(
        head=(head("s1_head", 224, n_epochs=20),),
        backbone=(LAST_BLOCKS,),
        highres=(head("s3_head_280", 280, n_epochs=10),),
    ),
    embed=Embed(
        settings=(
            Setting("head-only", (Member("s1_head", 224),)),
            Setting("+ last blocks, flip", PAIR[:1]),
            Setting("+ 280 px", PAIR[1:]),
            Setting("+ ensemble, PCA-64", PAIR, pca_dim=64),
        )
    ),
)
