"""bier: three learners in slices of the embedding, each for what the earlier ones miss (SOP .742).

Source: M. Opitz et al., BIER, ICCV 2017, and Deep metric learning with BIER, TPAMI 2018, arXiv 1801.04815. 512-d in
slices of 96, 160 and 256; slope 2 (25 times as steep for pairs of two classes), threshold .5; adversaries with a hidden
layer of 512; learning rate 1e-5, weight decay 2e-4, batches of 32. The constants are from a listing, the equations from
memory of the project's notes, not checked. The public code is under the GPL and was not read.

Published: R@1 of A-BIER at 512-d .575 (CUB), .820 (Cars), .742 (SOP), .831 (In-Shop), from a third party's list.

Different here:
- The backbone is ResNet-50. The slices are of 85, 171 and 256 numbers, in the ratio 1 to 2 to 3.
- A pair's weight is divided by the loss' largest slope. The adversaries' outputs are normalised, which replaces the
  penalty on their weights. Their weight (100) is ours.
- At test the embedding is used as it is. Theirs weights the slices.
- 40 epochs, Adam and four images of a class are ours.
- The export is reduced to 64-d, the contest's limit. Classes are split by the seed.

Machine: one card of 8 GB (estimated). Score to expect: .742 in R@1 at 512-d, see above; not run by us.
"""

from guie.recipe import (
    HEAD,
    Adam,
    Bier,
    Constant,
    Embed,
    Neck,
    Optim,
    PerClass,
    Recipe,
    Stage,
    Stages,
    Start,
)
from guie.recipes._retrieval import CROPS, ONLINE_PRODUCTS, RESNET50, ladder

ALL = Stage(
    "s1_all",
    trains="all",
    image_px=224,
    start=Start(fresh=HEAD),
    neck=Neck(dim=512, dropouts=(0.0,)),
    objective=Bier(n_learners=3, slope=2.0, threshold_cosine=0.5, negative_factor=25.0, has_bounded_weights=True),
    optim=Optim(
        n_epochs=40,
        batch_size=32,
        lr=1e-5,
        method=Adam(),
        weight_decay=2e-4,
        backbone_lr_factor=1.0,
        schedule=Constant(0.0),
    ),
    sampling=PerClass(images_per_class=4, power=-1.0),
    augment=CROPS,
)

RECIPE = Recipe(
    name="bier",
    data=ONLINE_PRODUCTS,
    model=RESNET50,
    stages=Stages(backbone=(ALL,)),
    embed=Embed(settings=ladder(2048, ALL)),
)
