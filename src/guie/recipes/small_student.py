"""small_student: a large tower teaches a small one with 64 numbers, on images with or without labels.

The teacher is SigLIP 2 SO400M/14 (428 M parameters, 1152-d, Apache-2.0), frozen: a head of 64 numbers starts as the PCA
of its unit features and learns with ArcFace, while `KeepCosines` holds the tower's geometry (tests/benchmarks/
universal.md: +.014 on unseen classes, +.026 on a domain never seen, both of a MobileNetV2). The student is DINOv2
ViT-S/14 with registers (22 M, 384-d, Apache-2.0). First its neck, then the whole network learns the cosines between the
teacher's embeddings, without labels. Most of its epochs see half of the patches (FLIP, arXiv 2212.00794), the last one
sees all.

The teacher runs once over the plain images, and its features are cached, so the student never waits for it. Other
towers: `start.model` of s1_teacher, and `model`, take any name of timm or open_clip with its weights; mean and std are
those of the library. Photos without labels: add `Source("photos", "unlabelled", FOLDER, "photos")` to `data.sources`,
and name all sets in `sources` of the student's stages.

Source: relational distillation, Park et al., CVPR 2019, arXiv 1904.05068; 13th place of GUIE, see `relational_13th`.
Machine: estimated. One card of 16 GB; without one, days. Score to expect: not measured.
"""

from guie.recipe import (
    HEAD,
    ArcFace,
    Augment,
    Cosine,
    Cost,
    Data,
    Embed,
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
    Weighted,
)
from guie.recipes._winners import FOOD101, GLDV2, GROCERY, HM, MET, PRODUCTS10K

TEACHER = Model("timm", "vit_so400m_patch14_siglip_224", "pretrained:v2_webli")
STUDENT = Model("timm", "vit_small_patch14_reg4_dinov2", "pretrained:lvd142m")
MILD = Augment(flip=0.5, shift=0.05, scale=0.1, brightness=0.1)  # the teacher saw the plain image
EVEN = Weighted(power=0.0)
NECK = Neck(has_unit_input=True, dropouts=(0.0,))


def student(name: str, trains: str, n_epochs: int, lr: float, of: str = "", patch_drop: float = 0.0) -> Stage:
    """A stage that learns the cosines between the teacher's embeddings. Without `of` it begins with a fresh neck."""
    return Stage(
        name,
        trains=trains,  # type: ignore[arg-type]
        image_px=224,
        start=Start(of=of) if of else Start(of="pretrained", fresh=HEAD, has_pca_neck=True),
        neck=NECK,
        objective=KeepCosines(weight=30.0, of="s1_teacher"),
        optim=Optim(
            n_epochs=n_epochs,
            batch_size=256,
            lr=lr,
            weight_decay=0.05,
            schedule=Cosine(warmup_share=0.05),
            backbone_lr_factor=0.1,
            clip_norm=1.0,
        ),
        sampling=EVEN,
        augment=MILD,
        cost=Cost(n_parts=4 if trains == "all" else 1, patch_drop=patch_drop),
    )


RECIPE = Recipe(
    name="small_student",
    data=Data(
        sources=(GLDV2, PRODUCTS10K, HM, MET, GROCERY, FOOD101),
        limits=(Limit("gldv2", n_images=400_000),),
        val_class_share=0.05,
        pack_px=256,
    ),
    model=STUDENT,
    stages=Stages(
        head=(
            Stage(
                "s1_teacher",
                trains="head",
                image_px=224,
                start=Start(of="pretrained", model=TEACHER, fresh=HEAD, has_pca_neck=True, has_mean_centers=True),
                neck=Neck(has_unit_input=True),
                objective=Sum(
                    terms=(ArcFace(margin_rad=GrowingMargin(start=0.1, step=0.1, max=0.5)), KeepCosines(weight=100.0))
                ),
                optim=Optim(n_epochs=20, batch_size=1024, lr=1e-3, schedule=OneCycle(warmup_share=0.3)),
            ),
            student("s2_neck", "head", n_epochs=5, lr=1e-3),
        ),
        backbone=(
            student("s3_student", "all", n_epochs=9, lr=1e-3, of="s2_neck", patch_drop=0.5),
            student("s4_all_patches", "all", n_epochs=1, lr=1e-4, of="s3_student"),
        ),
    ),
    embed=Embed(
        settings=(
            Setting("student off the shelf, PCA-64", (Member("pretrained", 224, output="feature"),), pca_dim=64),
            Setting("teacher, 64-d", (Member("s1_teacher", 224),)),
            Setting("student, neck alone", (Member("s2_neck", 224),)),
            Setting("student", (Member("s4_all_patches", 224),)),
        )
    ),
)
