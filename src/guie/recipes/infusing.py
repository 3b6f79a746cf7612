"""infusing: a SigLIP tuned on products that keeps what it knew before (+29.9 in domain, -.1 out of it).

Source: N. Ypsilantis et al., Infusing fine-grained visual knowledge to vision-language models, ICCV workshops 2025,
arXiv 2508.12137, github.com/nikosips/infusing at 5a981f3 (scripts/full_method.sh, loss_utils.py). A ViT-B/16 trains
with the softmax of cosines (NormFace, scale 16, no margin) on its own output, with Adam, learning rate 1e-3 for the
class centres and 1e-5 for the tower, weight decay 1e-6, batches of 128. Data sets take turns: a batch of the set that
is learned, then a batch of a generic set, a part of ImageNet. Generic images have no class loss. Their loss is the mean
squared change of their features, with weight 1000. In every step the squared distance of the weights to the loaded ones
is added, with weight 1e5. The example of its README trains three epochs on SOP.

Published, mean change of image-image retrieval in domain and out of domain, and of image-text retrieval out of domain:
plain fine-tuning +31, -6 and -12.7; with both terms +29.9, -.1 and -.9.

Different here:
- The class loss sees the 64-d embedding of a linear layer, which is exported. Theirs sees the tower's 768 numbers.
- The generic set can be any folder of images: put one into `imagenet/`, with a folder for each class. Use about
  120,000 images: half of the classes are for validation, as with SOP, and at most 60,000 images of the other half
  train, as many as of SOP. Because the two sets take turns, an epoch then sees each of these images once. With fewer
  generic images an epoch is shorter, and sees only a part of SOP. Of the kind `unlabelled` the folder needs no
  classes, and all its images train; the stage then names both sets in `sources`.
- The row `s2_between` is added here: WiSE-FT (arXiv 2109.01903) moves the tuned tower part of the way back to the
  loaded one.
- The last epoch is kept. They keep the best one by the validation of both sets.

Hours: not stated, on TPUs.
Machine: one card of 24 GB (estimated). Score to expect: see above, in other measures; not run by us.
"""

from guie.recipe import (
    HEAD,
    Adam,
    Augment,
    Constant,
    Data,
    Embed,
    Interpolate,
    Limit,
    Member,
    Model,
    Neck,
    Optim,
    Recipe,
    Retain,
    Setting,
    Softmax,
    Source,
    Stage,
    Stages,
    Start,
    Weighted,
)
from guie.recipes._winners import NO_CAP, SOP

ALL = Stage(
    "s1_all",
    trains="all",
    image_px=224,
    start=Start(fresh=HEAD),
    neck=Neck(dropouts=(0.0,)),
    objective=Softmax(scale=16.0),
    optim=Optim(
        n_epochs=3,
        batch_size=128,
        lr=1e-3,
        method=Adam(),
        weight_decay=1e-6,
        schedule=Constant(warmup_share=0.0),
        backbone_lr_factor=0.01,
    ),
    retain=Retain(features_weight=1000.0, generic=("imagenet",), weights_weight=1e5),
    sampling=Weighted(power=0.0, is_of_one_source=True),
    augment=Augment(flip=0.5, shift=0.05, scale=0.1),
)
OFF_THE_SHELF = Member("pretrained", 224, output="feature")

RECIPE = Recipe(
    name="infusing",
    data=Data(
        sources=(SOP, Source("imagenet", "class_folders", "imagenet", "generic")),
        limits=(Limit("imagenet", n_images=60_000),),
        max_per_class=NO_CAP,
        val_class_share=0.5,
        pack_px=256,
    ),
    model=Model("timm", "vit_base_patch16_siglip_224", "pretrained:webli"),  # 768-d; the library's mean and std are .5
    stages=Stages(backbone=(ALL, Interpolate("s2_between", of="s1_all", shares=(0.25, 0.5, 0.75)))),
    embed=Embed(
        settings=(
            Setting("off the shelf, 768-d", (OFF_THE_SHELF,)),
            Setting("off the shelf, PCA-64", (OFF_THE_SHELF,), pca_dim=64),
            Setting("tuned, 768-d", (Member("s1_all", 224, output="feature"),)),
            Setting("between, 768-d", (Member("s2_between", 224, output="feature"),)),
            Setting("tuned, 64-d", (Member("s1_all", 224),)),
        )
    ),
)
