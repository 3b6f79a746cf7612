"""berton_low_vram: DINOv2-B at 1e-6 with CosFace, batches of 32 (score not known).

Source: G. Berton et al., arXiv 2503.13045 and its released code. From its abstract: full fine-tuning is best, at a
learning rate of 1e-6 for the backbone and about 1 for the classifier; below 256 images a batch, CosFace and ArcFace
with one image of a class are best; the class token without projection is best. Adam, 224 px without a crop,
RandAugment with three operations. It stops after three epochs without a better score, or after 100.

Published: its tables could not be read, so no number is given here.

Different here:
- A linear layer of the feature's width follows the class token, because every stage has a neck. The layer and the
  centres train together at 1e-3; the rate of about 1 that theirs gives the classifier would be too fast for the layer.
- All 20 epochs run, and the best one is kept. Validation classes are half of all. Theirs are a fifth of the training
  classes.
- The batch of 32 is ours, as are the margin (.35) and the scale (64).
- The export is reduced to 64-d, the contest's limit.

Machine: one card of 16 GB (estimated). Score to expect: unknown, see above; not run by us.
"""

from guie.recipe import (
    HEAD,
    Adam,
    Augment,
    Constant,
    CosFace,
    Embed,
    Neck,
    Optim,
    PerClass,
    Recipe,
    Stage,
    Stages,
    Start,
    Validation,
)
from guie.recipes._retrieval import DINOV2_B, ONLINE_PRODUCTS, ladder

ALL = Stage(
    "s1_all",
    trains="all",
    image_px=224,
    start=Start(fresh=HEAD),
    neck=Neck(dim=768, dropouts=(0.0,)),
    objective=CosFace(margin_cosine=0.35, scale=64.0),
    optim=Optim(
        n_epochs=20,
        batch_size=32,
        lr=1e-3,
        method=Adam(),
        weight_decay=0.0,
        backbone_lr_factor=1e-3,
        schedule=Constant(0.0),
    ),
    sampling=PerClass(images_per_class=1, power=-1.0),
    augment=Augment(flip=0.0, randaugment=3),
    validation=Validation(every_epochs=1, keeps_best=True),
)

RECIPE = Recipe(
    name="berton_low_vram",
    data=ONLINE_PRODUCTS,
    model=DINOV2_B,
    stages=Stages(backbone=(ALL,)),
    embed=Embed(settings=ladder(768, ALL)),
)
