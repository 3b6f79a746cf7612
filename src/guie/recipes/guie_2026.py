"""guie_2026: a language-image tower and a self-supervised one side by side, frozen, and one head over both.

Towers: SigLIP 2 SO400M/14 (1152-d, 428 M parameters) and DINOv2-L/14 with registers (1024-d, 304 M), both Apache-2.0.
Language-image towers are the better ones for products and printed matter, self-supervised ones for landmarks (MIEB,
`../shared/facts/towers_and_peers.md`). The contest's winners concatenated one family at several resolutions.
Head: each feature is divided by its length; the 2,176 numbers become 256 by a linear layer that starts as their PCA,
class centres start as class means, and `KeepCosines` holds the towers' geometry (tests/benchmarks/universal.md has
what these gain on a domain never seen). A PCA reduces the 256 numbers to the contest's 64.
Data: the four sets of UniFEx (M4D-35k), about 328,000 images of 35,000 classes.

Time. At 224 px the towers take 0.220 + 0.165 = 0.385 TFLOP for an image. 328,000 images in two views (plain and
mirrored) take 252,600 TFLOP. A T4 is expected to sustain 25 of its 65 TFLOP/s in fp16: 84 minutes on two. All three
stages read the same cached features. ArcFace's products, 6 * 512 * 35,000 * 256 = 27.5 GFLOP for a step of 512, are
most of a head: 20 epochs are 12,800 steps, or 88 s at 4 TFLOP/s in fp32. More than seven of nine hours are left for
packing, scoring and the export.
Time of the scorer: 205,000 images take 78,900 TFLOP in fp32. In nine hours that is 2.4 TFLOP/s, 30 % of the 8.1 of a
T4. Mirrored images, too, would need 60 %; 378 px (1.168 TFLOP) would need 91 %, which no card sustains. Hence 224 px
and one view.
Memory: the weights are 4 * 732 M bytes = 2.9 GB in fp32. With 32 images of 256 tokens in half precision, the widest
activation (4,304 numbers in the first tower's blocks) is 71 MB, and there is no backward pass: less than 4 of 16 GB.
The head and its Adam: 4 * 4 bytes * (2,176 + 35,000) * 256 = 152 MB.
Disk: features 328,000 * 2,176 * 2 views * 2 bytes = 2.9 GB; the stages' weights 1.7 + 1.2 + 2.9 = 5.9 GB; the exported
file in fp16 1.5 GB, and its zip as much.
These are estimates from arithmetic (tests/contract/test_guie_2026.py derives them); nobody has timed this recipe yet.

Machine: two T4 of 16 GB, nine hours. Score to expect: unknown, since it has not been measured.
"""

from guie.recipe import (
    HEAD,
    ArcFace,
    Augment,
    Data,
    Embed,
    Export,
    GrowingMargin,
    KeepCosines,
    Limit,
    Member,
    Model,
    Neck,
    OneCycle,
    Optim,
    Recipe,
    Setting,
    Stage,
    Stages,
    Start,
    Sum,
)
from guie.recipes._winners import C2S_KAGGLE, CARS, GLDV2, PRODUCTS10K

PX = 224
LANGUAGE = Model("timm", "vit_so400m_patch14_siglip_224", "pretrained:v2_webli")
SELF_SUPERVISED = Model("timm", "vit_large_patch14_reg4_dinov2", "pretrained:lvd142m")
BOTH = Model("timm", "vit_so400m_patch14_siglip_224", "pretrained:v2_webli", beside=(SELF_SUPERVISED,))


def head(name: str, model: Model, dim: int) -> Stage:
    """A head on cached features of frozen towers, which starts from their PCA and class means."""
    return Stage(
        name,
        trains="head",
        image_px=PX,
        start=Start(of="pretrained", fresh=HEAD, model=model, has_pca_neck=True, has_mean_centers=True),
        neck=Neck(dim=dim, has_unit_input=True),
        objective=Sum(terms=(ArcFace(margin_rad=GrowingMargin(start=0.1, step=0.1, max=0.5)), KeepCosines(weight=30))),
        optim=Optim(n_epochs=20, batch_size=512, lr=1e-3, schedule=OneCycle(warmup_share=0.2)),
        augment=Augment(flip=0.5),
    )


OFF_THE_SHELF = (Member("pretrained", PX, output="feature"),)

RECIPE = Recipe(
    name="guie_2026",
    data=Data(
        sources=(PRODUCTS10K, GLDV2, C2S_KAGGLE, CARS),
        limits=(Limit("gldv2", n_classes=10000, n_images=79200),),
        val_class_share=0.05,
        pack_px=PX,
    ),
    model=BOTH,
    stages=Stages(
        head=(
            head("s1_language", LANGUAGE, dim=64),
            head("s2_self_supervised", SELF_SUPERVISED, dim=64),
            head("s3_both", BOTH, dim=256),
        )
    ),
    embed=Embed(
        settings=(
            Setting("off the shelf, 2176-d", OFF_THE_SHELF),
            Setting("off the shelf, PCA-64", OFF_THE_SHELF, pca_dim=64),
            Setting("language-image tower, its head", (Member("s1_language", PX),)),
            Setting("self-supervised tower, its head", (Member("s2_self_supervised", PX),)),
            Setting("both, one head of 256-d", (Member("s3_both", PX),)),
            Setting("+ PCA-64", (Member("s3_both", PX),), pca_dim=64),
        ),
        storage="bfloat16",
    ),
    export=Export(storage="fp16"),
)
