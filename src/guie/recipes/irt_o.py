"""irt_o: a DeiT-S off the shelf, without fine-tuning (SOP .531 by others).

Source: El-Nouby et al., Training vision transformers for image retrieval, arXiv 2102.05644.
IRT_O is the frozen backbone: its class token, or the mean, maximum or GeM of its tokens, then optionally PCA, then
length 1. `--set model.feature=gem` takes another pooling.

Published: the paper's numbers for IRT_O were not found. An unofficial repository reports R@1 .587 (CUB), .531 (SOP) and
.313 (In-Shop).

Different here:
- A recipe must train at least one stage. Here it is one epoch of a linear layer on the frozen features, with the loss
  of `irt_l`. The ladder has a row for it, beside the backbone's. The export does not use it.
- The export is reduced to 64-d, the contest's limit. Classes are split by the seed.

Machine: two cores suffice, a card is faster. Score to expect: .531 in R@1 at 384-d, see above; not run by us.
"""

from guie.recipe import (
    HEAD,
    Augment,
    Constant,
    Contrastive,
    Embed,
    Member,
    Neck,
    Optim,
    PerClass,
    Recipe,
    Setting,
    Stage,
    Stages,
    Start,
)
from guie.recipes._retrieval import DEIT_S, ONLINE_PRODUCTS

LINEAR = Stage(
    "s1_linear",
    trains="head",
    image_px=224,
    start=Start(fresh=HEAD),
    neck=Neck(dim=384, dropouts=(0.0,)),
    objective=Contrastive(margin_cosine=0.5),
    optim=Optim(n_epochs=1, batch_size=64, lr=1e-3, weight_decay=5e-4, schedule=Constant()),
    sampling=PerClass(images_per_class=2, power=-1.0),
    augment=Augment(flip=0.5),
)
FEATURE = (Member("pretrained", 224, output="feature"),)

RECIPE = Recipe(
    name="irt_o",
    data=ONLINE_PRODUCTS,
    model=DEIT_S,
    stages=Stages(head=(LINEAR,)),
    embed=Embed(
        settings=(
            Setting("off the shelf, 384-d", FEATURE),
            Setting("s1_linear, 384-d", (Member("s1_linear", 224),)),
            Setting("off the shelf, PCA-64", FEATURE, pca_dim=64),
        )
    ),
)
