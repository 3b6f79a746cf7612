"""demo: the whole method in minutes on two cores, with the project's own ViT on images that it draws itself.

Data: 320 instances in four drawn domains (data_prep/README.md), half of them never trained on. Weights: weights/vit_tiny_drawn.safetensors, which saw
none of them (weights/README.md). Schedule: that of the 1st place in small: head and backbone in turn at 112 px, at 144 px with interpolated position
embeddings, and with overlapping patches (16 px wide, one every 12, as its 14 every 12); the members of two resolutions are concatenated and reduced.

Run: ./run.sh
Machine: two cores. Score to expect, minutes and memory: README.
"""

from guie.recipe import Augment, Data, DrawnWorld, Embed, EpochMargin, Member, Model, Recipe, Setting, Source, Stage

FRESH = ("neck", "classifier")
MIRROR = Augment(flip=0.5)
STRONG = Augment(flip=0.5, shift=0.1, scale=0.2, rotate_deg=8, brightness=0.2, color=0.1)
GROWING = EpochMargin(0.1, 0.1, 0.4)
FULL = EpochMargin(0.4, 0.0, 0.4)
BOTH = ("plain", "flip")
OVERLAP = 12  # pixels from one patch of 16 to the next


def head(name: str, phase: str, image_px: int, patch_stride: int = 0) -> Stage:
    """A head-only stage on cached features, which takes seconds."""
    return Stage(name, phase, "head", image_px, 30, 128, 2e-3, fresh=FRESH, margin=GROWING, warmup_share=0.3, augment=MIRROR, patch_stride=patch_stride)


def backbone(name: str, phase: str, image_px: int, n_epochs: int, lr: float, patch_stride: int = 0) -> Stage:
    """A backbone-only stage with the head of the row before, fixed."""
    return Stage(name, phase, "backbone", image_px, n_epochs, 32, lr, margin=FULL, warmup_share=0.2, augment=STRONG, patch_stride=patch_stride)


RAW = Member("pretrained", 112, output="feature")
PLAIN = Member("s6_backbone_144", 144, BOTH)
OVERLAPPING = Member("s8_backbone_overlap", 148, BOTH, patch_stride=OVERLAP)

RECIPE = Recipe(
    name="demo",
    data=Data(
        sources=(
            Source("landmarks", "gldv2", "gldv2", "landmarks"),
            Source("products", "products10k", "products10k", "packaged"),
            Source("artworks", "class_folders", "artworks", "artworks"),
            Source("toys", "class_folders", "toys", "toys"),
        ),
        drawn=DrawnWorld(n_instances=80, n_views=8, image_px=200, difficulty=0.6),
        pack_px=160,
    ),
    model=Model("timm", "vit_tiny_patch16_224", "vit_tiny_drawn.safetensors", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    stages=(
        head("s1_head", "head", 112),
        backbone("s2_backbone", "backbone", 112, 3, 4e-4),
        head("s3_head", "backbone", 112),
        backbone("s4_backbone", "backbone", 112, 2, 2e-4),
        head("s5_head_144", "highres", 144),
        backbone("s6_backbone_144", "highres", 144, 1, 1e-4),
        head("s7_head_overlap", "highres", 148, OVERLAP),
        backbone("s8_backbone_overlap", "highres", 148, 1, 1e-4, OVERLAP),
    ),
    embed=Embed(
        settings=(
            Setting("off the shelf, 192-d", (RAW,)),
            Setting("off the shelf, PCA-64", (RAW,), pca_dim=64),
            Setting("head-only", (Member("s1_head", 112),)),
            Setting("+ backbone-only, in turn with the head", (Member("s4_backbone", 112),)),
            Setting("+ 144 px, flip", (PLAIN,)),
            Setting("+ overlapping patches, 148 px, flip", (OVERLAPPING,)),
            Setting("+ ensemble of both, TTA, PCA-64", (PLAIN, OVERLAPPING), pca_dim=64),
        )
    ),
)
