"""The stages that claims compare: variations of the head stage of objectives.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from objectives_settings import BATCH, LR, N_EPOCHS, OBJECTIVES, head_stage, whole_stage

from guie.recipe import ArcFace, PerClass, Stage

SCALE = 30.0  # of the contest's winners
MARGIN_RAD = 0.5  # 1st place's write-up and 5th place
N_IMAGES = 3_857  # of training in seed 0; the other seeds have some tens more or less
LAYERS_PX = 224  # of the shipped ViT where claims train its layers; the other tests of it have VIT_PX
PARTS = ("neck", "optim", "start")  # of a stage, whose fields `head` may change
WINNERS = ArcFace(margin_rad=MARGIN_RAD, scale=SCALE)


def head(objective: Any = WINNERS, name: str = "claim", **changes: Any) -> Stage:
    """A head on cached features: 64-d, 20 epochs, batches of 128, 4 images per class; `changes` are fields of the
    stage, or of its neck, optim or start where it has no such field."""
    stage = head_stage(name, OBJECTIVES[objective] if isinstance(objective, str) else objective)
    for field, value in changes.items():
        owners = [] if hasattr(stage, field) else [own for own in PARTS if hasattr(getattr(stage, own), field)]
        if owners:
            field, value = owners[0], replace(getattr(stage, owners[0]), **{field: value})
        stage = replace(stage, **{field: value})
    return stage


def in_batches(objective: Any, batch_size: int, images_per_class: int = 4) -> Stage:
    """As many steps as 20 epochs of batches of 128 have, with batches of another size."""
    n_epochs = round(N_EPOCHS * (N_IMAGES // BATCH) / (N_IMAGES // batch_size))
    sampling = PerClass(images_per_class=images_per_class, power=-0.5)
    return head(objective, batch_size=batch_size, n_epochs=n_epochs, sampling=sampling)


def on_the_vit(objective: Any = WINNERS) -> Stage:
    """A head on the cached features of the shipped ViT at 224 px."""
    return replace(head(objective, "claim_head"), image_px=LAYERS_PX)


def all_weights(
    backbone_lr_factor: float = 0.2, trains: str = "all", open_blocks: int = 0, is_first: bool = False
) -> Stage:
    """Two epochs of the shipped ViT at 224 px, from the head stage or from a fresh head."""
    stage = replace(whole_stage("claim", WINNERS), trains=trains, image_px=LAYERS_PX)
    lr = LR * backbone_lr_factor if trains == "backbone" else LR
    optim = replace(stage.optim, lr=lr, backbone_lr_factor=backbone_lr_factor, open_blocks=open_blocks)
    return replace(stage, optim=optim, start=on_the_vit().start if is_first else stage.start)
