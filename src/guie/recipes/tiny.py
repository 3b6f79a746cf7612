"""tiny: the whole pipeline in under two minutes on two cores, on images that the project draws. What the tests run.

Data: three drawn domains in the layouts of GLDv2, Products-10K and class folders. Backbone: timm's `test_convnext` (0.3 M
parameters) from random weights, so that nothing is downloaded: the ladder shows that every door works, not how good the method is.
Machine: two cores. Score to expect: see the README.
"""

from guie.recipe import Augment, Data, DrawnWorld, Embed, EpochMargin, Member, Model, PostProcess, Recipe, Setting, Source, Stage

HEAD = ("neck", "classifier")
AUGMENT = Augment(flip=0.5, shift=0.1, scale=0.15, rotate_deg=10, brightness=0.2)
MARGIN = EpochMargin(0.1, 0.1, 0.4)
BOTH = (Member("s3_head_again", 64, ("plain", "flip")), Member("s5_highres_backbone", 80, ("plain", "flip")))

RECIPE = Recipe(
    name="tiny",
    data=Data(
        sources=(
            Source("landmarks", "gldv2", "gldv2", "landmarks"),
            Source("products", "products10k", "products10k", "packaged"),
            Source("toys", "class_folders", "toys", "toys"),
        ),
        drawn=DrawnWorld(n_instances=24, n_views=8, image_px=128, domains=("landmarks", "products", "toys"), difficulty=0.2),
        pack_px=128,
    ),
    model=Model("timm", "test_convnext", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    stages=(
        Stage("s1_head", "head", "head", 64, 20, 64, 3e-3, fresh=HEAD, margin=MARGIN, n_cached_views=1, augment=AUGMENT),
        Stage("s2_backbone", "backbone", "backbone", 64, 18, 16, 2e-3, margin=EpochMargin(0.4, 0.0, 0.4), augment=AUGMENT),
        Stage("s3_head_again", "backbone", "head", 64, 20, 64, 3e-3, fresh=HEAD, margin=MARGIN, n_cached_views=1, augment=AUGMENT),
        Stage("s4_highres_head", "highres", "head", 80, 20, 64, 3e-3, fresh=HEAD, margin=MARGIN, n_cached_views=1, augment=AUGMENT),
        Stage("s5_highres_backbone", "highres", "backbone", 80, 6, 16, 1e-3, margin=EpochMargin(0.4, 0.0, 0.4), augment=AUGMENT),
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
