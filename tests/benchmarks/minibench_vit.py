"""minibench_vit: a ladder on the real images of `minibench` with the project's own ViT; overlapping patches beside none
at 148 px.

Head and backbone are trained in turn at 112 px, at 144 px, and at 148 px with and without overlapping patches. This was
the schedule of `demo` when the page was measured.

Run: python tests/benchmarks/seeds.py --recipe tests/benchmarks/minibench_vit.py --data-root ../shared/data --seeds 0
(half an hour)
"""

from dataclasses import replace

from guie.recipe import HEAD, Augment, Member, Setting, Stage, Stages, Start
from guie.recipes.demo import BOTH, OVERLAP
from guie.recipes.demo import RECIPE as DEMO
from guie.recipes.demo import backbone as short_steps
from guie.recipes.demo import head as plain_head
from guie.recipes.minibench import RECIPE as MINIBENCH


def head(name: str, image_px: int, patch_stride: int = 0, of: str = "") -> Stage:
    """A head-only stage of plain and mirrored images."""
    stage = plain_head(name, image_px)
    start = Start(of=of, fresh=HEAD)
    return replace(stage, patch_stride=patch_stride, start=start, augment=Augment(flip=0.5))


def backbone(name: str, image_px: int, n_epochs: int, lr: float, patch_stride: int = 0) -> Stage:
    """A backbone-only stage in steps of 32 images."""
    stage = short_steps(name, image_px, n_epochs, lr, patch_stride)
    return replace(stage, optim=replace(stage.optim, batch_size=32))


PLAIN = Member("s6_backbone_144", 144, BOTH)
OVERLAPPING = Member("s8_backbone_overlap", 148, BOTH, patch_stride=OVERLAP)

RECIPE = replace(
    DEMO,
    name="minibench_vit",
    data=replace(MINIBENCH.data, pack_px=200),
    stages=Stages(
        head=(head("s1_head", 112),),
        backbone=(
            backbone("s2_backbone", 112, n_epochs=3, lr=4e-4),
            head("s3_head", 112),
            backbone("s4_backbone", 112, n_epochs=2, lr=2e-4),
        ),
        highres=(
            head("s5_head_144", 144),
            backbone("s6_backbone_144", 144, n_epochs=1, lr=1e-4),
            head("s7_head_overlap", 148, OVERLAP),
            backbone("s8_backbone_overlap", 148, n_epochs=1, lr=1e-4, patch_stride=OVERLAP),
            head("x7_head_148", 148, of="s6_backbone_144"),
            backbone("x8_backbone_148", 148, n_epochs=1, lr=1e-4),
        ),
    ),
    embed=replace(
        DEMO.embed,
        settings=(
            *DEMO.embed.settings[:2],  # off the shelf
            Setting("head-only", (Member("s1_head", 112),)),
            Setting("+ backbone-only, in turn with the head", (Member("s4_backbone", 112),)),
            Setting("+ 144 px, flip", (PLAIN,)),
            Setting("+ a stage at 148 px without overlap, flip", (Member("x8_backbone_148", 148, BOTH),)),
            Setting("+ a stage at 148 px with overlap, flip", (OVERLAPPING,)),
            Setting("+ ensemble of 144 px and overlap, TTA, PCA-64", (PLAIN, OVERLAPPING), pca_dim=64),
        ),
    ),
)
