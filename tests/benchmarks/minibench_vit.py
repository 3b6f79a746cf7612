"""minibench_vit: the ladder of `demo` on the real images of `minibench`, with the project's own ViT; overlapping
patches beside none at 148 px.

Run: python tests/benchmarks/seeds.py --recipe tests/benchmarks/minibench_vit.py --data-root ../shared/data --seeds 0
(half an hour)
"""

from dataclasses import replace

from guie.recipe import Member, Setting
from guie.recipes.demo import BOTH, OVERLAPPING, PLAIN, backbone, head
from guie.recipes.demo import RECIPE as DEMO
from guie.recipes.minibench import RECIPE as MINIBENCH

RECIPE = replace(
    DEMO,
    name="minibench_vit",
    data=replace(MINIBENCH.data, pack_px=200),
    stages=replace(
        DEMO.stages,
        highres=(
            *DEMO.stages.highres,
            head("x7_head_148", 148, of="s6_backbone_144"),
            backbone("x8_backbone_148", 148, n_epochs=1, lr=1e-4),
        ),
    ),
    embed=replace(
        DEMO.embed,
        settings=(
            *DEMO.embed.settings[:5],  # up to 144 px
            Setting("+ a stage at 148 px without overlap, flip", (Member("x8_backbone_148", 148, BOTH),)),
            Setting("+ a stage at 148 px with overlap, flip", (OVERLAPPING,)),
            Setting("+ ensemble of 144 px and overlap, TTA, PCA-64", (PLAIN, OVERLAPPING), pca_dim=64),
        ),
    ),
)
