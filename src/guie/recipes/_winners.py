"""Data sets and backbones that several winners' recipes share. Facts are from write-ups and released code; see each
recipe.
"""

from guie.recipe import Member, Model, Setting, Source, Stage, Views

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
# 1024-d, 632 M parameters
VIT_H = Model("open_clip", "ViT-H-14", "pretrained:laion2b_s32b_b79k", mean=CLIP_MEAN, std=CLIP_STD)
# 768-d, 304 M parameters
VIT_L_336 = Model("open_clip", "ViT-L-14-336-quickgelu", "pretrained:openai", mean=CLIP_MEAN, std=CLIP_STD)

GLDV2 = Source("gldv2", "gldv2", "gldv2", "landmarks")
PRODUCTS10K = Source("products10k", "products10k", "products10k", "packaged")
ALIPRODUCTS = Source("aliproducts", "aliproducts", "aliproducts", "packaged")
SHOPEE = Source("shopee", "shopee", "shopee", "packaged")
RP2K = Source("rp2k", "rp2k", "rp2k", "packaged")
GROCERY = Source("grocery", "grocery_store", "grocery_store/dataset", "packaged")
HM = Source("hm", "hm", "hm", "apparel")
MET = Source("met", "met", "met", "artworks")
C2S = Source("deepfashion_c2s", "deepfashion_c2s", "deepfashion_c2s", "apparel")
# A re-packed copy with only the classes of three or more images.
C2S_KAGGLE = Source("deepfashion_c2s", "deepfashion_c2s_kaggle", "deepfashion_c2s", "apparel")
FASHION200K = Source("fashion200k", "fashion200k", "fashion200k", "apparel")
SOP = Source("sop", "sop", "sop", "furniture")
CARS = Source("cars196", "cars196", "cars196", "cars")
FOOD101 = Source("food101", "food101", "food-101", "dishes")
GPR1200 = Source("gpr1200", "gpr1200", "gpr1200", "storefronts")

NO_CAP = 10**9  # images of a class, for write-ups that state no cap


def ladder(model_dim: int, last: Stage, views: Views = ("plain",)) -> tuple[Setting, ...]:
    """Two settings: the pretrained backbone, and the last stage's embedding, reduced to 64-d by PCA if it is wider.

    Args:
        model_dim: Dimensions of the backbone's feature, for the first setting's name.
        last: The recipe's last stage.
        views: Views of the last stage's embedding.
    """
    px, stride = last.image_px, last.patch_stride
    wide = 64 if last.neck.dim > 64 else 0
    return (
        Setting(f"off the shelf, {model_dim}-d", (Member("pretrained", 224, output="feature"),)),
        Setting(f"{last.name} at {px} px", (Member(last.name, px, views, patch_stride=stride),), pca_dim=wide),
    )
