"""Claims about tricks: of the contest's winners, of the tutorial, and at search time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from claims_data import ARC
from claims_embedding import RAW
from claims_stages import MARGIN_RAD, SCALE, WINNERS, head
from claims_training import GUIE
from claims_types import Arm, Claim, Expected, Projected
from objectives_settings import HEAD_PX, VIT_RECIPE

from guie.recipe import ArcFace, ClassMargin, Constant, GrowingMargin, PostProcess, Softmax

BASE = Arm((head(),))
PCA_START = Arm((head(has_pca_neck=True, has_unit_input=True),))
SMALLER_PX = 160
BOTH = Projected(64)


def _with(**changes: Any) -> Arm:
    return Arm((head(**changes),))


def _trick(name: str, says: str, source: str, setup: str, other: Arm, base: Arm = BASE, **values: Any) -> Claim:
    return Claim(name, "tricks", says, source, setup, base, other, **values)


def _helps_or_not(name: str, yes: tuple[str, str], no: tuple[str, str], setup: str, other: Arm) -> tuple[Claim, Claim]:
    """One comparison that two sources tell otherwise: (what it says, who)."""
    expected: Expected = "no more"
    return _trick(name, *yes, setup, other), _trick(f"{name}_not", *no, setup, other, expected=expected)


TRAINING = (
    _trick(
        *("temperature", "A temperature is needed: cosines as they are do not train.", "Zhai and Wu, arXiv 1811.12649"),
        "Softmax; base: scale 1; other: scale 20",
        Arm((head(Softmax(scale=20.0)),)),
        Arm((head(Softmax(scale=1.0)),)),
    ),
    _trick(
        *("scale_30", "A scale of 30 is better than ArcFace's 64.", f"{GUIE}: all winners took 30"),
        "ArcFace, margin .5; base: scale 64; other: 30",
        BASE,
        Arm((head(ArcFace(margin_rad=MARGIN_RAD, scale=64.0)),)),
    ),
    _trick(
        *(
            "growing_margin",
            "A margin that grows with the epoch is better than a fixed one.",
            f"{GUIE}, 2nd place: +.004",
        ),
        "ArcFace, scale 30; base: margin .5; other: from .1 by .1 an epoch to .5",
        Arm((head(ArcFace(margin_rad=GrowingMargin(start=0.1, step=0.1, max=MARGIN_RAD), scale=SCALE)),)),
    ),
    _trick(
        *("class_margin", "Margins by class frequency are better than one for all.", f"{GUIE}, 4th and 6th place"),
        "ArcFace, scale 30; base: margin .3; other: .05 to .5 by n^-1/4",
        Arm((head(ArcFace(margin_rad=ClassMargin(), scale=SCALE)),)),
        Arm((head(ArcFace(margin_rad=0.3, scale=SCALE)),)),
    ),
    *_helps_or_not(
        "sub_centers",
        ("Three sub-centres are better than one.", f"{GUIE}, 3rd, 4th and 6th place"),
        ("Sub-centres do not help.", f"{GUIE}, 5th place"),
        "ArcFace; base: one centre; other: three",
        Arm((head(replace(WINNERS, n_sub_centers=3)),)),
    ),
    _trick(
        *("dropout", "Dropout of .2 before the last layer helps.", f"{GUIE}, 1st, 2nd and 6th place"),
        "base: none; other: .2",
        BASE,
        _with(dropouts=(0.0,)),
    ),
    _trick(
        *("branches", "The mean of twenty branches is better than one.", f"{GUIE}, 3rd place, arXiv 2210.09296"),
        "base: one branch, dropout .2; other: twenty, .01 to .20",
        _with(dropouts=tuple(round(0.01 * (i + 1), 2) for i in range(20)), is_branched=True),
    ),
    _trick(
        *("multi_sample_dropout", "Several dropouts before one layer are better than one.", f"{GUIE}, 4th place"),
        "base: .2; other: .1 to .5, averaged",
        _with(dropouts=(0.1, 0.2, 0.3, 0.4, 0.5)),
    ),
    _trick(
        *("batch_norm", "Batch norm before the head helps.", f"{GUIE}, 5th and 6th place"),
        "base: none; other: batch norm without weights of its own",
        _with(has_norm=True),
    ),
    _trick(
        *("size_inputs", "The image's size beside the feature helps.", f"{GUIE}, 5th place: about +.003"),
        "base: batch norm; other: batch norm and three numbers of the size",
        _with(has_norm=True, has_size=True),
        _with(has_norm=True),
        note="minibench's images of one domain have one size, more than photos do.",
    ),
    _trick(
        *("deeper_head", "A deeper head does not help.", f"{GUIE}, 5th and 18th place"),
        "base: one layer; other: a hidden layer of 512",
        _with(hidden_dim=512),
        expected="no more",
    ),
    _trick(
        *("sam", "Sharpness-aware minimisation helps.", f"{GUIE}, 5th place"),
        "base: AdamW; other: SAM with rho .05",
        _with(sam_rho=0.05),
    ),
    _trick(
        *("few_epochs", "Five epochs are as good as twenty.", f"{GUIE}, 10th place"),
        "base: 20 epochs; other: 5",
        _with(n_epochs=5),
        expected="alike",
        small=0.01,
    ),
    _trick(
        *("falling_rate", "A learning rate that falls is better than a constant one.", f"{GUIE}, 9th place: +.01"),
        "base: constant; other: one cycle",
        BASE,
        _with(schedule=Constant(warmup_share=0.1)),
    ),
    _trick(
        *(
            "class_means",
            "Centres that start as class means are better than random ones.",
            "this project, universal.md",
        ),
        "base: random centres; other: class means; both with a PCA start",
        Arm((head(has_pca_neck=True, has_unit_input=True, has_mean_centers=True),)),
        PCA_START,
    ),
    _trick(
        *("soup", "The mean of the weights of several trainings is better than one.", f"{GUIE}, 4th place"),
        "PCA start; base: one training; other: four, weights averaged",
        replace(PCA_START, n_averaged=4),
        PCA_START,
        note="The four differ in the order of images and dropout; the source's differ in augmentation.",
    ),
)
SEARCH_TIME = (
    *_helps_or_not(
        "flip",
        ("Averaging with the mirrored image helps.", f"{GUIE}, 2nd place: +.004"),
        ("Averaging with the mirrored image does not help.", f"{GUIE}, 10th place"),
        "ArcFace; base: plain; other: plain and mirrored",
        replace(BASE, views=("plain", "flip")),
    ),
    _trick(
        *(
            "larger_test_image",
            "Testing at a somewhat higher resolution helps.",
            f"{GUIE}, 18th place: 240 for 224, +.003",
        ),
        "ArcFace head of 224 px; base: 224; other: 240",
        replace(BASE, image_px=240),
        replace(BASE, image_px=HEAD_PX),
    ),
    _trick(
        *("resolutions", "An ensemble of two resolutions is better than one.", f"{GUIE}, 1st place: .671 to .680"),
        "base: PCA-64 of features at 224 px; other: of features at 224 and 160 px",
        replace(RAW, joined=(replace(RAW, image_px=SMALLER_PX),), projected=BOTH),
        replace(RAW, projected=BOTH),
    ),
    _trick(
        *("two_families", "An ensemble of two families is better than one.", "GUIE, 10th place; shared/facts"),
        "base: PCA-64 of MobileNetV2's features; other: with the shipped ViT's at 160 px",
        replace(RAW, joined=(Arm(image_px=SMALLER_PX, model=VIT_RECIPE.model),), projected=BOTH),
        replace(RAW, projected=BOTH),
        note="The ViT was distilled, without labels, on seed 0's training images: unseen classes of other seeds.",
    ),
    _trick(
        *("expansion", "Query expansion helps.", "Chum et al., ICCV 2007; Radenovic et al., TPAMI 2019"),
        "ArcFace; base: none; other: three neighbours, cosine^3",
        replace(ARC, post=PostProcess(n_expanded=3)),
        ARC,
    ),
    _trick(
        *("augmentation", "Database augmentation helps.", "Turcot and Lowe, 2009; Gordo et al., IJCV 2017"),
        "ArcFace; base: none; other: three neighbours, cosine^3",
        replace(ARC, post=PostProcess(n_augmented=3)),
        ARC,
    ),
    _trick(
        *("re_ranking", "k-reciprocal re-ranking helps.", "Zhong et al., CVPR 2017; used in Jaguar Re-ID, Kaggle 2026"),
        "ArcFace; base: none; other: k1 20, k2 6, weight .3",
        replace(ARC, post=PostProcess(rerank_k1=20)),
        ARC,
    ),
    _trick(
        *(
            "length_mix",
            "Lengths hold information: mixing them in helps.",
            "Elezi et al., Group Loss++, arXiv 2204.01509",
        ),
        "ArcFace and its PCA; base: unit embeddings; other: lengths mixed in by half",
        replace(ARC, projected=Projected(64, is_unit=False), post=PostProcess(length_mix=0.5)),
        replace(ARC, projected=Projected(64, is_unit=False)),
    ),
)
TRICKS = (*TRAINING, *SEARCH_TIME)
