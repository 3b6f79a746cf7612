"""What objectives.py compares: every objective with its published numbers, and the small search that each is given.

This file is a recipe, too, so that the doors can prepare its images:
`--recipe tests/benchmarks/objectives_settings.py`.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

from guie.recipe import (
    HEAD,
    ArcFace,
    Augment,
    BatchHard,
    Bier,
    Circle,
    Contrastive,
    CosFace,
    DistanceContrastive,
    DistanceWeighted,
    Diva,
    DivideConquer,
    EasyPositive,
    Embed,
    GroupLoss,
    HierarchicalDivide,
    KeepCosines,
    KoLeo,
    LiftedStructure,
    MarginLoss,
    Member,
    Memory,
    MessagePassing,
    Mic,
    MultiSimilarity,
    Neck,
    NtXent,
    Optim,
    Pads,
    PerClass,
    ProxyAnchor,
    ProxyGml,
    ProxyNca,
    Recipe,
    RhoContrastive,
    RhoMargin,
    RhoTriplet,
    SemiHard,
    Setting,
    SharingMatters,
    Softmax,
    SoftTriple,
    SphereFace,
    SphereFaceR,
    Stage,
    Stages,
    Start,
    Sum,
    SupCon,
    ThresholdConsistentMargin,
    Triplet,
)
from guie.recipes.demo import RECIPE as DEMO
from guie.recipes.minibench import RECIPE as MINIBENCH

HEAD_PX = 224
N_EPOCHS = 20
BATCH = 128
PER_CLASS = 4
LR = 1e-3
XBM = Memory(size=2048, start_step=60)  # half of the training images, from the third epoch on

# Second learning rates: the factors of the settings fit the backbone's rates of the papers, 1e-5 or 1e-4. Here they are
# those that give the published absolute rate at LR: 5e-4 for beta, .01 for proxies and centres, .03 for ProxyGml.
BETA = 5e-4 / LR
PROXIES = 1e-2 / LR
# The published numbers: the defaults of the settings, but for those that are written out here. Arc- and CosFace have
# those of their papers (arXiv 1801.07698, 1801.09414), Softmax the temperature .05 of Zhai and Wu. Memories and
# clusters are sized to minibench's 3,872 training images.
OBJECTIVES: dict[str, Any] = {
    "ArcFace": ArcFace(margin_rad=0.5, scale=64.0),
    "CosFace": CosFace(margin_cosine=0.35, scale=64.0),
    "Softmax": Softmax(scale=20.0),
    "SphereFace": SphereFace(),
    "SphereFaceR": SphereFaceR(),
    "ProxyNca": ProxyNca(proxy_lr_factor=PROXIES),
    "ProxyNca_original": ProxyNca(is_plus_plus=False, scale=1.0, proxy_lr_factor=PROXIES),
    "ProxyAnchor": ProxyAnchor(proxy_lr_factor=PROXIES),
    "SoftTriple": SoftTriple(center_lr_factor=PROXIES),
    "ProxyGml": ProxyGml(proxy_lr_factor=3e-2 / LR),
    "Contrastive": Contrastive(),
    "Contrastive_memory": Contrastive(memory=XBM),
    "DistanceContrastive": DistanceContrastive(),
    "Triplet": Triplet(),
    "Triplet_semihard": Triplet(miner=SemiHard()),
    "Triplet_easy_positive": Triplet(miner=EasyPositive()),
    "Triplet_batch_hard": Triplet(miner=BatchHard(), has_soft_margin=True, margin_distance=0.0),
    "MarginLoss": MarginLoss(miner=DistanceWeighted(), beta_lr_factor=BETA),
    "LiftedStructure": LiftedStructure(is_generalised=True),
    "MultiSimilarity": MultiSimilarity(),
    "MultiSimilarity_memory": MultiSimilarity(memory=XBM),
    "NtXent": NtXent(),
    "SupCon": SupCon(),
    "Circle": Circle(),
    "RhoMargin": RhoMargin(beta_lr_factor=BETA),
    "RhoTriplet": RhoTriplet(),
    "RhoContrastive": RhoContrastive(),
    "Contrastive_KoLeo": Sum(terms=(Contrastive(), KoLeo())),
    "Softmax_TCM": Sum(terms=(Softmax(scale=20.0), ThresholdConsistentMargin())),
    "ArcFace_KeepCosines": Sum(terms=(ArcFace(margin_rad=0.5, scale=64.0), KeepCosines())),
    "Bier": Bier(),
    "DivideConquer": DivideConquer(n_clusters=2),
    "HierarchicalDivide": HierarchicalDivide(n_clusters=2, n_divided_epochs=10),
    "Mic": Mic(beta_lr_factor=BETA),
    "SharingMatters": SharingMatters(beta_lr_factor=BETA),
    "Diva": Diva(beta_lr_factor=BETA),
    "GroupLoss": GroupLoss(),
    "MessagePassing": MessagePassing(),
    "Pads": Pads(beta_lr_factor=BETA),
}


@dataclass(frozen=True)
class Search:
    """Two other values of an objective's main number.

    Attributes:
        field: Path of the number within the objective.
        values: What is tried beside the published value.
        source: Where the values come from. Published ranges were read in the project's notes,
            shared/facts/objectives.md, which name their own sources.
    """

    field: str
    values: tuple[float, float]
    source: str


TUNED_TRIPLET = "pytorch-metric-learning's default .05; Musgrave et al. tuned .045 to .137"
RHO_SHARES = "Roth et al.: .15 (SOP) to .4 (CUB)"
BETAS = ".6 (Roth, PADS on CUB and Cars) to 1.2 (Wu)"
TENTHS = "ours: a tenth, and ten times; the papers' scale depends on the width of the adversary's output"
# The same budget for all: the published setting, two other values of one number, and two other learning rates.
SEARCH: dict[str, Search] = {
    "ArcFace": Search("margin_rad", (0.2, 0.8), "margins of the contest's winners, .1 to .8"),
    "CosFace": Search("margin_cosine", (0.15, 0.55), "ours, and 1st place's released .55"),
    "Softmax": Search("scale", (10.0, 16.0), "temperatures .06 to .11, tuned by Musgrave et al."),
    "SphereFace": Search("angle_factor", (2, 3), "the paper's table has m 1 to 4"),
    "SphereFaceR": Search("angle_factor", (1.25, 2.0), "ours, about the paper's 1.5"),
    "ProxyNca": Search("scale", (3.0, 27.0), "ours: a third, and three times"),
    "ProxyNca_original": Search("scale", (3.0, 9.0), "Roth et al. scale both sides by 3, which is 9"),
    "ProxyAnchor": Search("scale", (16.0, 64.0), "ours: half, and twice"),
    "SoftTriple": Search("scale", (10.0, 40.0), "ours: half, and twice"),
    "ProxyGml": Search("neighbor_share", (0.025, 0.1), "ours: half, and twice"),
    "Contrastive": Search("margin_cosine", (0.3, 0.7), "ours, about IRT's .5"),
    "Contrastive_memory": Search("margin_cosine", (0.3, 0.7), "ours, about IRT's .5"),
    "DistanceContrastive": Search("negative_margin_distance", (0.4, 0.6), "Musgrave et al. tuned .38 to .54"),
    "Triplet": Search("margin_distance", (0.05, 0.1), TUNED_TRIPLET),
    "Triplet_semihard": Search("margin_distance", (0.05, 0.1), TUNED_TRIPLET),
    "Triplet_easy_positive": Search("margin_distance", (0.05, 0.1), TUNED_TRIPLET),
    "Triplet_batch_hard": Search("margin_distance", (0.2, 0.5), "ours: the soft margin begins before equality"),
    "MarginLoss": Search("beta_distance", (0.6, 0.9), BETAS),
    "LiftedStructure": Search("margin_distance", (0.5, 2.0), "ours: half, and twice"),
    "MultiSimilarity": Search("base_cosine", (0.65, 0.85), "Musgrave et al. tuned .63 to .85"),
    "MultiSimilarity_memory": Search("base_cosine", (0.65, 0.85), "Musgrave et al. tuned .63 to .85"),
    "NtXent": Search("temperature", (0.035, 0.14), "ours: half, and twice; Musgrave et al. tuned up to .04"),
    "SupCon": Search("temperature", (0.05, 0.2), "ours: half, and twice"),
    "Circle": Search("margin_cosine", (0.25, 0.5), "the paper's .25 for faces, and ours"),
    "RhoMargin": Search("flip_share", (0.15, 0.4), RHO_SHARES),
    "RhoTriplet": Search("flip_share", (0.15, 0.4), RHO_SHARES),
    "RhoContrastive": Search("flip_share", (0.15, 0.4), RHO_SHARES),
    "Contrastive_KoLeo": Search("terms.1.weight", (0.2, 2.0), "ours: about a third, and three times, IRT's .7"),
    "Softmax_TCM": Search("terms.1.positive_weight", (0.3, 3.0), "ours: about a third, and three times"),
    "ArcFace_KeepCosines": Search("terms.1.weight", (10.0, 100.0), "ours: about a third, and three times"),
    "Bier": Search("decorrelation_weight", (1.0, 10.0), "ours: the paper's could not be found"),
    "DivideConquer": Search("beta_distance", (0.6, 0.9), BETAS),
    "HierarchicalDivide": Search("beta_distance", (0.6, 0.9), BETAS),
    "Mic": Search("decorrelation_weight", (10.0, 1000.0), TENTHS),
    "SharingMatters": Search("decorrelation_weight", (10.0, 1000.0), TENTHS),
    "Diva": Search("decorrelation_weight", (15.0, 1500.0), TENTHS),
    "GroupLoss": Search("temperature", (54.0, 79.0), "published for SOP and Cars"),
    "MessagePassing": Search("temperature", (0.111, 0.605), "published for Cars and SOP"),
    "Pads": Search("beta_distance", (0.9, 1.2), BETAS),
}
PUBLISHED = "published"
LR_FACTORS = (1 / 3, 3.0)  # of `LR`


def settings_of(name: str) -> dict[str, tuple[Any, float]]:
    """What the search tries: the name of a setting to the objective and the learning rate; the published one first."""
    published = OBJECTIVES[name]
    search = SEARCH[name]
    tried = {PUBLISHED: (published, LR)}
    tried |= {f"{search.field}={value:g}": (changed(published, search.field, value), LR) for value in search.values}
    return tried | {f"lr={LR * factor:.2g}": (published, LR * factor) for factor in LR_FACTORS}


def changed(node: Any, path: str, value: float) -> Any:
    """Settings with another number at a path such as `scale` or `terms.1.weight`."""
    key, _, rest = path.partition(".")
    if isinstance(node, tuple):
        i = int(key)
        return (*node[:i], changed(node[i], rest, value), *node[i + 1 :])
    if key not in {field.name for field in fields(node)}:
        raise ValueError(f"{type(node).__name__} has no field {key!r}")
    return replace(node, **{key: changed(getattr(node, key), rest, value) if rest else value})


def head_stage(name: str, objective: Any, lr: float = LR, image_px: int = HEAD_PX) -> Stage:
    """A head that an objective trains on the cached features of a frozen backbone."""
    return Stage(
        name,
        trains="head",
        image_px=image_px,
        start=Start(of="pretrained", fresh=HEAD),
        neck=Neck(dim=64),  # its dropout of .2 is worth .01 here
        objective=objective,
        optim=Optim(n_epochs=N_EPOCHS, batch_size=BATCH, lr=lr),
        sampling=PerClass(images_per_class=PER_CLASS, power=-0.5),
        augment=Augment(flip=0.5),
    )


# Part (b) and the costs of part (c): the project's own ViT with all of its weights, at the demo's first resolution.
# Its head is trained first, as in part (a). The ViT was distilled, without labels, on the training images of seed 0's
# split: so these parts keep that split, and their seeds differ in the training alone.
VIT_PX = 112
VIT_EPOCHS = 2
VIT_BATCH = 64
MOST_USED = (
    "ArcFace",
    "CosFace",
    "Softmax",
    "ProxyNca",
    "ProxyAnchor",
    "Contrastive",
    "Triplet_semihard",
    "MarginLoss",
    "MultiSimilarity",
    "SupCon",
)


def whole_stage(
    name: str, objective: Any, n_epochs: int = VIT_EPOCHS, batch: int = VIT_BATCH, n_parts: int = 1
) -> Stage:
    """Backbone and head together, from the head stage of the same objective."""
    first = head_stage(f"{name}_head", objective, image_px=VIT_PX)
    return replace(
        first,
        name=name,
        trains="all",
        start=Start(of=first.name),
        optim=Optim(n_epochs=n_epochs, batch_size=batch, lr=LR, backbone_lr_factor=0.2),
        cost=replace(first.cost, n_parts=n_parts),
    )


RECIPE = Recipe(
    name="objectives",
    data=MINIBENCH.data,
    model=MINIBENCH.model,
    stages=Stages(head=tuple(head_stage(name, objective) for name, objective in OBJECTIVES.items())),
    embed=Embed(tuple(Setting(name, (Member(name, HEAD_PX),)) for name in OBJECTIVES)),
)
VIT_RECIPE = replace(RECIPE, model=DEMO.model)
