"""kaggle_t4: the best that fits two cards of 16 GB in nine hours: a ViT-H's head, then its last half, then 280 px.

Source: the frozen head of the 5th place, the learning rates of the 2nd and 6th, the higher resolution of the 1st.
Data: Products-10K and 120,000 landmark images.

Time, for 250,000 training images. A ViT-H/14 takes 0.33 TFLOP for an image at 224 px, and 0.52 at 280 px. A T4 is
expected to sustain 25 of its 65 TFLOP/s in fp16. So the forward pass runs at 75 images/s a card: the cached features of
two views take 55 minutes on two cards, and the head takes a few more. With the last 16 of 32 blocks, forward and
backward with checkpoints take 0.33 + 3 * 0.17 = 0.83 TFLOP: 30 images/s a card, 70 minutes. At 280 px the features take
90 minutes. With packing, validation, ensemble and export that makes about six and a half of nine hours.
Memory: the weights take 2.5 GB in fp32, gradients and Adam's moments of 316 M trained parameters 3.8 GB, activations of
16 images with checkpoints less than 4 GB. That makes about 11 of 16 GB.
These are estimates from arithmetic; nobody has timed this recipe on those cards yet.

Start it as: accelerate launch --num_processes 2 src/05_train_backbone.py --recipe kaggle_t4
Machine: two T4 of 16 GB, nine hours. Score to expect: unknown, since it has not been measured.
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
