"""berton_high_vram: DINOv2-B at 1e-6 with the threshold-consistent margin, batches of 256 (score not known).

Source: G. Berton et al., arXiv 2503.13045 and its released code. From its abstract: full fine-tuning is best, at a
learning rate of 1e-6; from 256 images a batch on, losses of pairs (the threshold-consistent margin, or multi-similarity
with its miner) with two to four images of a class are best; the class token without projection is best. Adam, 224 px
without a crop, RandAugment with three operations. The released code has the margin alone, without another loss. It
stops after three epochs without a better score, or after 100.

Published: its tables could not be read, so no number is given here.

Different here:
- A linear layer of the feature's width follows the class token, because every stage has a neck. It trains at 1e-4.
- All 20 epochs run, and the best one is kept. Validation classes are half of all. Theirs are a fifth of the training
  classes.
- The backbone sees the batch in eight parts of 32. The gradient is that of the whole batch.
- The export is reduced to 64-d, the contest's limit.

Machine: one card of 16 GB (estimated); with cost.n_parts=1, 40 GB or more. Score to expect: unknown, see above; not run
by us.
"""

from guie.recipe import (
    HEAD,
    Adam,
    Augment,
    Constant,
    Cost,
    Embed,
    Neck,
    Optim,
    PerClass,
    Recipe,
    Stage,
    Stages,
    Start,
    ThresholdConsistentMargin,
    Validation,
)
from guie.recipes._retrieval import DINOV2_B, ONLINE_PRODUCTS, ladder

ALL = Stage(
    "s1_all",
    trains="all",
    image_px=224,
    start=Start(fresh=HEAD),
    neck=Neck(dim=768, dropouts=(0.0,)),
    objective=ThresholdConsistentMargin(positive_margin_cosine=0.9, negative_margin_cosine=0.5),
    optim=Optim(
        n_epochs=20,
        batch_size=256,
        lr=1e-4,
        method=Adam(),
        weight_decay=0.0,
        backbone_lr_factor=0.01,
        schedule=Constant(0.0),
    ),
    sampling=PerClass(images_per_class=4, power=-1.0),
    augment=Augment(flip=0.0, randaugment=3),
    cost=Cost(n_parts=8),
    validation=Validation(every_epochs=1, keeps_best=True),
)

RECIPE = Recipe(
    name="berton_high_vram",
    data=ONLINE_PRODUCTS,
    model=DINOV2_B,
    stages=Stages(backbone=(ALL,)),
    embed=Embed(settings=ladder(768, ALL)),
)
