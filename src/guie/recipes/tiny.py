"""tiny: the whole pipeline in under two minutes on two cores, on images that the project draws. The tests run it.

Data: three drawn domains in the layouts of GLDv2, Products-10K and class folders.
Backbone: timm's `test_convnext` (0.3 M parameters) with random weights, so that nothing is downloaded. So its ladder
shows that every door works, not how good the method is.
Machine: two cores. Score to expect: see the README.
"""

from guie.recipe import (
    HEAD,
    ArcFace,
    Augment,
    Cost,
    Data,
    DrawnWorld,
    Embed,
    GrowingMargin,
    Member,
    Model,
    Optim,
    PostProcess,
    Recipe,
    Setting,
    Source,
    Stage,
    Stages,
    Start,
)

AUGMENT = Augment(flip=0.5, shift=0.1, scale=0.15, rotate_deg=10, brightness=0.2)
MARGIN_RAD = 0.4
BOTH = (Member("s3_head_again", 64, ("plain", "flip")), Member("s5_highres_backbone", 80, ("plain", "flip")))


def head(name: str, image_px: int) -> Stage:
    """A head-only stage on cached features."""
    return Stage(
        name,
        trains="head",
        image_px=image_px,
        start=Start(fresh=HEAD),
        objective=ArcFace(margin_rad=GrowingMargin(start=0.1, step=0.1, max=MARGIN_RAD)),
        optim=Optim(n_epochs=20, batch_size=64, lr=3e-3),
        cost=Cost(n_cached_augmentations=1),
        augment=AUGMENT,
    )


def backbone(name: str, image_px: int, n_epochs: int, lr: float) -> Stage:
    """A backbone-only stage, with the head of the stage before it fixed."""
    return Stage(
        name,
        trains="backbone",
        image_px=image_px,
        objective=ArcFace(margin_rad=MARGIN_RAD),
        optim=Optim(n_epochs=n_epochs, batch_size=16, lr=lr),
        augment=AUGMENT,
    )


RECIPE = Recipe(
    name="tiny",
    data=Data(
        sources=(
            Source("landmarks", "gldv2", "gldv2", "landmarks"),
            Source("products", "products10k", "products10k", "packaged"),
            Source("toys", "class_folders", "toys", "toys"),
        ),
        drawn=DrawnWorld(
            n_instances=24, n_views=8, image_px=128, domains=("landmarks", "products", "toys"), difficulty=0.2
        ),
        pack_px=128,
    ),
    model=Model("timm", "test_convnext", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    stages=Stages(
        head=(head("s1_head", 64),),
        backbone=(backbone("s2_backbone", 64, n_epochs=18, lr=2e-3), head("s3_head_again", 64)),
        highres=(head("s4_highres_head", 80), backbone("s5_highres_backbone", 80, n_epochs=6, lr=1e-3)),
    ),
    embed=Embed(
        settings=(
            Setting("off the shelf", (Member("pretrained", 64, output="feature"),)),
            Setting("head-only", (Member("s1_head", 64),)),
            Setting("+ backbone, head again", (Member("s3_head_again", 64),)),
            Setting("+ 80 px, flip", (Member("s5_highres_backbone", 80, ("plain", "flip")),)),
            Setting("+ ensemble, TTA, re-ranked", BOTH, pca_dim=64, post=PostProcess(rerank_k1=6, rerank_k2=3)),
            Setting("+ ensemble, TTA, PCA-64", BOTH, pca_dim=64),
        )
    ),
)
