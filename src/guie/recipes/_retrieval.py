"""Data, backbones and ladder that the recipes of the retrieval literature share."""

from guie.recipe import Augment, Data, Member, Model, Setting, Source, Stage
from guie.recipes._winners import NO_CAP

# Half of the 22,634 classes train, as published, but they are drawn by the seed: the published split takes the first
# 11,318. Nothing is thinned, and only pictures of equal bytes count as duplicates.
ONLINE_PRODUCTS = Data(
    sources=(Source("sop", "sop", "sop", "products"),),
    max_per_class=NO_CAP,
    val_class_share=0.5,
    pack_px=256,
    duplicate_bits=-1,
)

RESNET50 = Model("timm", "resnet50", "pretrained:tv_in1k")  # 2048-d, 24 M parameters; its batch norm stays as loaded
DEIT_S = Model("timm", "deit_small_patch16_224", "pretrained:fb_in1k", feature="cls")  # 384-d, 22 M parameters
DINOV2_B = Model("timm", "vit_base_patch14_dinov2", "pretrained:lvd142m", feature="cls")  # 768-d, 86 M parameters

# Instead of crops of random size and aspect, images are moved by up to a tenth of the side and scaled by up to 30 %.
CROPS = Augment(flip=0.5, shift=0.1, scale=0.3)


def ladder(model_dim: int, last: Stage) -> tuple[Setting, ...]:
    """Three settings: the pretrained backbone, the last stage's embedding, and this embedding reduced to the contest's
    64-d.

    Args:
        model_dim: Dimensions of the backbone's feature, for the first setting's name.
        last: The recipe's last stage.
    """
    member = Member(last.name, last.image_px)
    return (
        Setting(f"off the shelf, {model_dim}-d", (Member("pretrained", last.image_px, output="feature"),)),
        Setting(f"{last.name}, {last.neck.dim}-d", (member,)),
        Setting(f"{last.name}, PCA-64", (member,), pca_dim=64),
    )
