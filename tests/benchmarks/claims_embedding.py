"""Claims about the embedding: its width, what shortens it, codes, and its geometry."""

from __future__ import annotations

from dataclasses import replace

from claims_data import ARC, CONTRASTIVE
from claims_stages import head
from claims_training import BERTON, GUIE, ROTH
from claims_types import OURS, Arm, Claim, Projected
from objectives_settings import BETA, VIT_PX, VIT_RECIPE

from guie.recipe import RhoMargin

IRT = "El-Nouby et al., IRT, arXiv 2102.05644"
MUSGRAVE = "Musgrave et al., ECCV 2020, arXiv 2003.08505"
RAW = Arm()
WIDE = Arm((head("ArcFace", dim=512),))
PCA_64 = replace(RAW, projected=Projected(64))
NO_CLASS_ERROR = "The interval is over the seeds alone."
OVER_OBJECTIVES = "The interval is for other objectives. Those more than .1 below the median are left out."
DIMENSION = (
    Claim(
        "direct_64",
        "dimension",
        says="A head of 64 numbers is better than a wider one that is reduced afterwards.",
        source=f"{GUIE}, 9th place: about +.01 over 256 numbers and pooling",
        setup="ArcFace of scale 64; base: 256-d, then PCA-64; other: 64-d",
        base=Arm((head("ArcFace", dim=256),), projected=Projected(64)),
        other=ARC,
        note="PCA instead of the source's average pooling.",
    ),
    Claim(
        "reduction_costs",
        "dimension",
        says="Linear reduction of a tower's features costs.",
        source=BERTON,
        setup="no training; base: 1,280 numbers; other: PCA-64",
        base=RAW,
        other=PCA_64,
        expected="less",
    ),
    Claim(
        "whitening",
        "dimension",
        says="Whitening does not cost.",
        source=BERTON,
        setup="no training; base: PCA-256; other: PCA-256, whitened",
        base=replace(RAW, projected=Projected(256)),
        other=replace(RAW, projected=Projected(256, whiten=1.0)),
        expected="no less",
        small=0.01,
    ),
    Claim(
        "half_whitening",
        "dimension",
        says="Whitening by half is better than none.",
        source=f"{OURS}, minibench's recipe",
        setup="no training; base: PCA-64; other: PCA-64, whitened by the exponent .5",
        base=PCA_64,
        other=replace(RAW, projected=Projected(64, whiten=0.5)),
        note="The exponent was chosen by the validation score of seed 0.",
    ),
    Claim(
        "unit_features",
        "dimension",
        says="PCA of L2-normalised features is better than PCA of features of their own lengths.",
        source=f"{OURS}, shared/facts/universal_64d.md: +.011 on domains never seen",
        setup="no training; base: PCA-64 of raw features; other: of unit features",
        base=replace(RAW, projected=Projected(64, is_unit=False)),
        other=PCA_64,
    ),
    Claim(
        "short_vectors",
        "dimension",
        says="Short vectors keep most of it.",
        source=f"{IRT}; {BERTON}",
        setup="ArcFace of scale 64, 512-d, and its PCA; base: all 512 components; other: the first 64",
        base=replace(WIDE, projected=Projected(512)),
        other=replace(WIDE, projected=Projected(512, n_first=64)),
        expected="no less",
        small=0.02,
    ),
    Claim(
        "shortest_vectors",
        "dimension",
        says="The first 16 components keep most of it.",
        source=f"{IRT}",
        setup="ArcFace of scale 64, 64-d, and its PCA; base: all 64 components; other: the first 16",
        base=replace(ARC, projected=Projected(64)),
        other=replace(ARC, projected=Projected(64, n_first=16)),
        expected="no less",
        small=0.05,
    ),
    Claim(
        "wider_128",
        "dimension",
        says="128 numbers are better than 64.",
        source=f"{OURS}, shared/facts/universal_64d.md",
        setup="ArcFace of scale 64; base: 64-d; other: 128-d",
        base=ARC,
        other=Arm((head("ArcFace", dim=128),)),
    ),
    Claim(
        "width_saturates",
        "dimension",
        says="Above 128 numbers the score hardly grows.",
        source="common knowledge; no paper was found that says it",
        setup="ArcFace of scale 64; base: 128-d; other: 512-d",
        base=Arm((head("ArcFace", dim=128),)),
        other=WIDE,
        expected="no more",
        small=0.01,
    ),
    Claim(
        "int8",
        "dimension",
        says="int8 numbers cost nothing.",
        source="sentence-transformers' documentation: 1 to 2 % of 1,024 numbers",
        setup="ArcFace of scale 64, 64-d; base: float; other: int8 with one scale",
        base=ARC,
        other=replace(ARC, code="int8"),
        expected="no less",
    ),
    Claim(
        "bits",
        "dimension",
        says="One bit a number costs little.",
        source="sentence-transformers' documentation: 5 to 15 % of 1,024 numbers",
        setup="ArcFace of scale 64, 64-d; base: float; other: signs",
        base=ARC,
        other=replace(ARC, code="bits"),
        expected="no less",
        small=0.05,
        note="64 numbers, not 1,024.",
    ),
)
KOLEO = Arm((head("Contrastive_KoLeo"),))
GEOMETRY = (
    Claim(
        "spectral_decay",
        "geometry",
        says="The less the spectrum decays, the better an embedding generalises.",
        source=f"{ROTH}: correlation of R@1 with rho -.63 to -.85",
        setup="rank correlation of mP@5 with rho over the searched objectives",
        statistic="mP@5 and rho",
        expected="less",
        small=0.2,
        note=OVER_OBJECTIVES,
    ),
    Claim(
        "embedding_density",
        "geometry",
        says="The larger the ratio of distances within and between classes, the better an embedding generalises.",
        source=f"{ROTH}: correlation +.22 to +.79",
        setup="rank correlation of mP@5 with the density over the searched objectives",
        statistic="mP@5 and density",
        small=0.2,
        note=OVER_OBJECTIVES,
    ),
    Claim(
        "rho_regularisation",
        "geometry",
        says="rho-regularisation gains.",
        source=f"{ROTH}: 63.1 to 64.9 on CUB, 79.9 to 82.4 on Cars; 78.4 to 77.6 on SOP (from memory)",
        setup="each with its own search; base: MarginLoss; other: RhoMargin",
        base=Arm(objective="MarginLoss"),
        other=Arm(objective="RhoMargin"),
        note="As in the source, beta starts at 1.2 and at .6; the search tries both for MarginLoss alone.",
    ),
    Claim(
        "rho_spreads",
        "geometry",
        says="rho-regularisation makes the spectrum flatter.",
        source=ROTH,
        setup="RhoMargin, metric rho; base: no tuple is turned round; other: three of ten",
        base=Arm((head(RhoMargin(beta_lr_factor=BETA, flip_share=0.0)),)),
        other=Arm((head("RhoMargin"),)),
        metric="spectral_decay",
        expected="less",
        small=0.01,
        note=NO_CLASS_ERROR,
    ),
    Claim(
        "koleo_spreads",
        "geometry",
        says="KoLeo makes the spectrum flatter.",
        source=IRT,
        setup="metric rho; base: Contrastive; other: with KoLeo",
        base=CONTRASTIVE,
        other=KOLEO,
        metric="spectral_decay",
        expected="less",
        small=0.01,
        note=NO_CLASS_ERROR,
    ),
    Claim(
        "koleo_helps",
        "geometry",
        says="KoLeo helps retrieval.",
        source=f"{IRT}; an unofficial reproduction saw no gain on SOP and In-Shop",
        setup="base: Contrastive; other: with KoLeo",
        base=CONTRASTIVE,
        other=KOLEO,
    ),
    Claim(
        "transformers_collapse_less",
        "geometry",
        says="Transformers' embeddings collapse less than those of CNNs.",
        source=IRT,
        setup="metric rho of ArcFace heads at 112 px; base: MobileNetV2; other: the shipped ViT-Ti",
        base=Arm((replace(head("ArcFace"), image_px=VIT_PX),)),
        other=Arm((replace(head("ArcFace"), image_px=VIT_PX),), model=VIT_RECIPE.model),
        metric="spectral_decay",
        expected="less",
        small=0.01,
        note=f"{NO_CLASS_ERROR} The ViT was distilled, without labels, from this MobileNetV2, and in "
        "seeds 1 to 4 on images of unseen classes. Its head has 192 inputs, the other 1,280.",
    ),
)
