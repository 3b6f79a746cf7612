"""Claims about tricks: of the contest's winners, of the tutorial, and at search time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from claims_data import ARC
from claims_embedding import RAW
from claims_stages import MARGIN_RAD, SCALE, WINNERS, head
from claims_training import GUIE
from claims_types import OURS, Arm, Claim, Projected
from objectives_settings import HEAD_PX, VIT_PX, VIT_RECIPE

from guie.recipe import ArcFace, ClassMargin, Constant, GrowingMargin, PostProcess, Softmax

BASE = Arm((head(),))
PCA_START = Arm((head(has_pca_neck=True, has_unit_input=True),))
MEANS = Arm((head(has_pca_neck=True, has_unit_input=True, has_mean_centers=True),))
SEEN_BY_VIT = "The ViT was distilled, without labels, on seed 0's training images: unseen classes of the other seeds."
SMALLER_PX = 160
TO_64 = Projected(64)
WINNERS_HEAD = "ArcFace of scale 30"
SCALE_64 = "ArcFace of scale 64"


def _pooled(feature: Any) -> Arm:
    """The shipped ViT's tokens, pooled."""
    return Arm(image_px=VIT_PX, model=replace(VIT_RECIPE.model, feature=feature))


def _with(**changes: Any) -> Arm:
    return Arm((head(**changes),))


def _trick(name: str, says: str, source: str, setup: str, *, base: Arm = BASE, other: Arm, **values: Any) -> Claim:
    return Claim(name, "tricks", says, source, setup, base, other, **values)


def _helps_or_not(name: str, yes: tuple[str, str], no: tuple[str, str], setup: str, **values: Any) -> tuple[Claim, ...]:
    """Two claims from one comparison on which two sources disagree. `yes` and `no` are (the claim, its source)."""
    return (
        _trick(name, *yes, setup, **values),
        _trick(f"{name}_not", *no, setup, expected="no more", note=f"The same comparison as `{name}`.", **values),
    )


TRAINING = (
    _trick(
        "temperature",
        "A temperature is needed: cosines as they are train worse.",
        "Zhai and Wu, arXiv 1811.12649",
        "Softmax; base: scale 1; other: scale 20",
        base=Arm((head(Softmax(scale=1.0)),)),
        other=Arm((head(Softmax(scale=20.0)),)),
    ),
    _trick(
        "scale_30",
        "A scale of 30 is better than ArcFace's 64.",
        f"{GUIE}: 1st, 2nd, 4th, 5th and 10th place took 30",
        "ArcFace, margin .5; base: scale 64; other: 30",
        base=Arm((head(ArcFace(margin_rad=MARGIN_RAD, scale=64.0)),)),
        other=BASE,
    ),
    _trick(
        "growing_margin",
        "A margin that grows with the epoch is better than a fixed one.",
        f"{GUIE}, 2nd place: +.004",
        f"{WINNERS_HEAD}; base: margin .5; other: from .1 by .1 an epoch to .5",
        other=Arm((head(ArcFace(margin_rad=GrowingMargin(start=0.1, step=0.1, max=MARGIN_RAD), scale=SCALE)),)),
        small=0.002,
    ),
    _trick(
        "class_margin",
        "Margins by class frequency are better than one for all.",
        f"{GUIE}, 4th and 6th place",
        f"{WINNERS_HEAD}; base: margin .3; other: .05 to .5 by n^-1/4",
        base=Arm((head(ArcFace(margin_rad=0.3, scale=SCALE)),)),
        other=Arm((head(ArcFace(margin_rad=ClassMargin(), scale=SCALE)),)),
    ),
    *_helps_or_not(
        "sub_centers",
        ("Three sub-centres are better than one.", f"{GUIE}, 3rd, 4th and 6th place"),
        ("Sub-centres do not help.", f"{GUIE}, 5th place"),
        f"{WINNERS_HEAD}; base: one centre; other: three",
        other=Arm((head(replace(WINNERS, n_sub_centers=3)),)),
    ),
    _trick(
        "dropout",
        "Dropout of .2 before the last layer helps.",
        f"{GUIE}, 1st, 2nd and 6th place",
        f"{WINNERS_HEAD}; base: none; other: .2",
        base=_with(dropouts=(0.0,)),
        other=BASE,
    ),
    _trick(
        "branches",
        "The mean of twenty branches is better than one.",
        f"{GUIE}, 3rd place, arXiv 2210.09296",
        f"{WINNERS_HEAD}; base: one branch, dropout .2; other: twenty, .01 to .20",
        other=_with(dropouts=tuple(round(0.01 * (i + 1), 2) for i in range(20)), is_branched=True),
    ),
    _trick(
        "multi_sample_dropout",
        "Several dropouts before one layer are better than one.",
        f"{GUIE}, 4th place",
        f"{WINNERS_HEAD}; base: .2; other: .1 to .5, averaged",
        other=_with(dropouts=(0.1, 0.2, 0.3, 0.4, 0.5)),
    ),
    _trick(
        "batch_norm",
        "Batch norm before the head helps.",
        f"{GUIE}, 5th and 6th place",
        f"{WINNERS_HEAD}; base: none; other: batch norm without weights of its own",
        other=_with(has_norm=True),
    ),
    _trick(
        "size_inputs",
        "The image's size beside the feature helps.",
        f"{GUIE}, 5th place: about +.003",
        f"{WINNERS_HEAD}; base: batch norm; other: batch norm and three numbers of the size",
        base=_with(has_norm=True),
        other=_with(has_norm=True, has_size=True),
        small=0.0015,
        note="minibench's images of one domain have one size, more than photos do.",
    ),
    _trick(
        "deeper_head",
        "A deeper head does not help.",
        f"{GUIE}, 5th and 18th place",
        f"{WINNERS_HEAD}; base: one layer; other: a hidden layer of 512",
        other=_with(hidden_dim=512),
        expected="no more",
    ),
    _trick(
        "sam",
        "Sharpness-aware minimisation helps.",
        f"{GUIE}, 5th place",
        f"{WINNERS_HEAD}; base: AdamW; other: SAM with rho .05",
        other=_with(sam_rho=0.05),
        note="SAM computes two gradients a step; both sides have the same number of steps.",
    ),
    _trick(
        "few_epochs",
        "A quarter of the epochs is as good as all.",
        f"{GUIE}, 10th place: five epochs as good as twenty",
        f"{WINNERS_HEAD}; base: 20 epochs, 600 steps; other: 5 epochs, 150 steps",
        other=_with(n_epochs=5),
        expected="no less",
        small=0.01,
        note="The 10th place's epochs had many times as many steps.",
    ),
    _trick(
        "falling_rate",
        "A learning rate that falls is better than a constant one.",
        f"{GUIE}, 9th place: +.01",
        f"{WINNERS_HEAD}; base: constant; other: one cycle",
        base=_with(schedule=Constant(warmup_share=0.1)),
        other=BASE,
    ),
    _trick(
        "class_means",
        "Centres that start as class means are better than random ones.",
        f"{OURS}, universal.md",
        f"{WINNERS_HEAD}; base: random centres; other: class means; both with a PCA start",
        base=PCA_START,
        other=MEANS,
    ),
    _trick(
        "soup",
        "The mean of the weights of several trainings is better than one.",
        f"{GUIE}, 4th place",
        f"{WINNERS_HEAD}, one start from PCA and class means; base: one training; other: four, weights averaged",
        base=MEANS,
        other=replace(MEANS, n_averaged=4),
        note="The four differ in the order of images and dropout, the source's in augmentation. Four times the work.",
    ),
)
SEARCH_TIME = (
    *_helps_or_not(
        "flip",
        ("Averaging with the mirrored image helps.", f"{GUIE}, 2nd place: +.004"),
        ("Averaging with the mirrored image does not help.", f"{GUIE}, 10th place"),
        f"{WINNERS_HEAD}; base: plain; other: plain and mirrored",
        other=replace(BASE, views=("plain", "flip")),
        small=0.002,
    ),
    _trick(
        "larger_test_image",
        "Testing at a somewhat higher resolution helps.",
        f"{GUIE}, 18th place: 240 for 224, +.003",
        f"{WINNERS_HEAD} of 224 px; base: 224; other: 240",
        base=replace(BASE, image_px=HEAD_PX),
        other=replace(BASE, image_px=240),
        small=0.0015,
    ),
    *(
        _trick(
            f"pooling_{pooling}",
            f"{name} is better than the mean of the patch tokens.",
            source,
            f"the shipped ViT at {VIT_PX} px, no training; base: mean; other: {pooling}",
            base=_pooled("mean"),
            other=_pooled(pooling),
            note=f"Its class token was distilled, the mean was not: no fair comparison of them. {SEEN_BY_VIT}",
        )
        for pooling, name, source in (
            ("cls", "The class token", "Berton et al., arXiv 2503.13045"),
            ("gem", "Generalised-mean pooling", "Radenovic et al., TPAMI 2019; asked by IRT, arXiv 2102.05644"),
            ("max", "Max pooling", "asked by IRT, arXiv 2102.05644"),
        )
    ),
    _trick(
        "overlap",
        "Overlapping patches help.",
        f"{GUIE}, 1st place: 14 px wide, one every 12",
        "the shipped ViT, no training; base: 144 px, patches of 16 px side by side; other: 148 px, one every 12 px",
        base=Arm(image_px=144, model=VIT_RECIPE.model),
        other=Arm(image_px=148, patch_stride=12, model=VIT_RECIPE.model),
        note=f"144 tokens instead of 81: at least 1.8 times the work. The source fine-tuned with them. {SEEN_BY_VIT}",
    ),
    _trick(
        "resolutions",
        "An ensemble of two resolutions is better than one.",
        f"{GUIE}, 1st place: .671 to .680",
        "base: PCA-64 of features at 224 px; other: of features at 224 and 160 px",
        base=replace(RAW, projected=TO_64),
        other=replace(RAW, joined=(replace(RAW, image_px=SMALLER_PX),), projected=TO_64),
        small=0.0045,
    ),
    _trick(
        "two_families",
        "An ensemble of two families is better than one.",
        f"{GUIE}, 10th place",
        "base: PCA-64 of MobileNetV2's features; other: with the shipped ViT's at 160 px",
        base=replace(RAW, projected=TO_64),
        other=replace(RAW, joined=(Arm(image_px=SMALLER_PX, model=VIT_RECIPE.model),), projected=TO_64),
        note=SEEN_BY_VIT,
    ),
    _trick(
        "expansion",
        "Query expansion helps.",
        "Chum et al., ICCV 2007; Radenovic et al., TPAMI 2019",
        f"{SCALE_64}; base: none; other: three neighbours, cosine^3",
        base=ARC,
        other=replace(ARC, post=PostProcess(n_expanded=3)),
    ),
    _trick(
        "augmentation",
        "Database augmentation helps.",
        "Turcot and Lowe, 2009; Gordo et al., IJCV 2017",
        f"{SCALE_64}; base: none; other: three neighbours, cosine^3",
        base=ARC,
        other=replace(ARC, post=PostProcess(n_augmented=3)),
    ),
    _trick(
        "re_ranking",
        "k-reciprocal re-ranking helps.",
        "Zhong et al., CVPR 2017; used in Jaguar Re-ID, Kaggle 2026",
        f"{SCALE_64}; base: none; other: k1 20, k2 6, weight .3",
        base=ARC,
        other=replace(ARC, post=PostProcess(rerank_k1=20)),
    ),
    _trick(
        "length_mix",
        "Lengths hold information: mixing them in helps.",
        "Elezi et al., Group Loss++, arXiv 2204.01509",
        f"{SCALE_64} and its PCA; base: unit embeddings; other: lengths mixed in by half",
        base=replace(ARC, projected=Projected(64, is_unit=False)),
        other=replace(ARC, projected=Projected(64, is_unit=False), post=PostProcess(length_mix=0.5)),
    ),
)
TRICKS = (*TRAINING, *SEARCH_TIME)
