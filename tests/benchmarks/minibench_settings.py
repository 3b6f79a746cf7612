"""minibench with a row of scores for each view, member, soup, combination, projection and post-processing, beside its
ladder.

It opens the same run as minibench: what that one has trained is not trained again, the soup and door 07 alone are made
anew. The numbers of neighbours of the rows that look at the index were chosen on seed 0: 2 among 1 to 10, 10 and 3
among 20 and 6, 6 and 2, 4 and 2.

Run, after tests/benchmarks/seeds.py for the recipe minibench: the same for this one, with --recipe
tests/benchmarks/minibench_settings.py --seeds 0
"""

from dataclasses import replace

from guie.recipe import Member, PostProcess, Setting, Soup
from guie.recipes.minibench import BOTH, WIDE
from guie.recipes.minibench import RECIPE as MINIBENCH


def one(name: str, *views: str, stage: str = "s7_head_288") -> Setting:
    """The 64-d embedding of one stage at 288 px, by views."""
    return Setting(f"288 px: {name}", (Member(stage, 288, views),))


FINAL = MINIBENCH.embed.final
SOUP = Soup("s9_soup_288", of=("s5_head_288", "s6_backbone_288"))  # they share one neck
VIEWS = (
    one("plain", "plain"),
    one("flip", *BOTH),
    one("crop", "crop"),
    one("pad", "pad"),
    one("plain or crop or pad, by aspect", "aspect", "aspect_pad"),
    Setting("288 px: mean with 320 px", (Member("s7_head_288", 288), Member("s7_head_288", 320)), combine="mean"),
    one("before a new head", "plain", stage="s6_backbone_288"),
    one("soup of this and its start", "plain", stage=SOUP.name),
)
COMBINED = (
    Setting("off the shelf, power .5, PCA-64", (Member("pretrained", 224, output="feature"),), pca_dim=64, power=0.5),
    Setting("member of 224 px, PCA-64", WIDE[:1], pca_dim=64),
    Setting("member of 288 px, PCA-64", WIDE[1:], pca_dim=64),
    Setting("their mean, PCA-64", WIDE, pca_dim=64, combine="mean"),
    Setting("side by side, whitened fully", WIDE, pca_dim=64, whiten=1.0),
    Setting(
        "side by side, half whitened, power .5", WIDE, pca_dim=64, whiten=0.5, power=0.5, is_chosen_on_validation=True
    ),
)
SEARCHED = tuple(
    replace(FINAL, name=f"half whitened, {name}", post=post)
    for name, post in {
        "lengths kept by half": PostProcess(length_mix=0.5),
        "queries expanded": PostProcess(n_expanded=2),
        "index augmented": PostProcess(n_augmented=2),
        "both": PostProcess(n_expanded=2, n_augmented=2),
        "re-ranked": PostProcess(rerank_k1=10, rerank_k2=3, rerank_weight=0.6),
    }.items()
)

RECIPE = replace(
    MINIBENCH,
    stages=replace(MINIBENCH.stages, highres=(*MINIBENCH.stages.highres, SOUP)),
    embed=replace(MINIBENCH.embed, settings=(*MINIBENCH.embed.settings[:-1], *VIEWS, *COMBINED, *SEARCHED, FINAL)),
)
