"""What the recipes of the winners share: data sets by name, and CLIP's backbones. Facts from the write-ups and released
code; see each recipe."""

from guie.recipe import Member, Model, Setting, Source, Stage, Views

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
VIT_H = Model(
    "open_clip", "ViT-H-14", "pretrained:laion2b_s32b_b79k", mean=CLIP_MEAN, std=CLIP_STD
)  # 1024 numbers, 632 M parameters
VIT_L_336 = Model(
    "open_clip", "ViT-L-14-336-quickgelu", "pretrained:openai", mean=CLIP_MEAN, std=CLIP_STD
)  # 768 numbers, 304 M parameters

GLDV2 = Source("gldv2", "gldv2", "gldv2", "landmarks")
PRODUCTS10K = Source("products10k", "products10k", "products10k", "packaged")
ALIPRODUCTS = Source("aliproducts", "aliproducts", "aliproducts", "packaged")
SHOPEE = Source("shopee", "shopee", "shopee", "packaged")
RP2K = Source("rp2k", "rp2k", "rp2k", "packaged")
GROCERY = Source("grocery", "grocery_store", "grocery_store/dataset", "packaged")
HM = Source("hm", "hm", "hm", "apparel")
MET = Source("met", "met", "met", "artworks")
C2S = Source("deepfashion_c2s", "deepfashion_c2s", "deepfashion_c2s", "apparel")
C2S_KAGGLE = Source(
    "deepfashion_c2s", "deepfashion_c2s_kaggle", "deepfashion_c2s", "apparel"
)  # re-packed: classes of three or more
FASHION200K = Source("fashion200k", "fashion200k", "fashion200k", "apparel")
SOP = Source("sop", "sop", "sop", "furniture")
CARS = Source("cars196", "cars196", "cars196", "cars")
FOOD101 = Source("food101", "food101", "food-101", "dishes")
GPR1200 = Source("gpr1200", "gpr1200", "gpr1200", "storefronts")

NO_CAP = 10**9  # images of a class: whoever names no cap had none


def ladder(model_dim: int, last: Stage, views: Views = ("plain",)) -> tuple[Setting, ...]:
    """Two rows: the backbone as it was loaded, and the last stage's embedding, which is exported (through PCA where it
    is wider than 64)."""
    px, stride = last.image_px, last.patch_stride
    wide = 64 if last.neck.dim > 64 else 0
    return (
        Setting(f"off the shelf, {model_dim}-d", (Member("pretrained", 224, output="feature"),)),
        Setting(f"{last.name} at {px} px", (Member(last.name, px, views, patch_stride=stride),), pca_dim=wide),
    )
