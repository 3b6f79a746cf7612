"""Computes what a teacher makes of the training images: the embeddings of an earlier row of the recipe, of any
backbone, image size and width, or the features of the stage's own backbone before any training."""

from __future__ import annotations

import numpy as np
import torch

from guie.embed.ensemble import load_backbone, load_neck
from guie.embed.features import Encoder, FeatureStore, Stored
from guie.embed.sizes import sized
from guie.settings.names import PRETRAINED
from guie.settings.stage import Stage

BLOCK = 1 << 14  # rows embedded at once: 75 MB of 1,152 numbers


def taught_by(stage: Stage, store: FeatureStore, rows: np.ndarray) -> dict[str, Stored]:
    """What each teacher of a stage makes of plain images, float32 [n_rows, dim], by the teacher's name.

    All processes must call it together. The teachers' backbone features are read from the feature cache; missing ones
    are extracted.

    Args:
        stage: The stage whose objective names the teachers.
        store: The feature store of the packed images.
        rows: int64 [n_rows], rows of the pack.
    """
    return {
        name: _pretrained_features(stage, store, rows) if name == PRETRAINED else _embeddings(name, store, rows)
        for name in stage.reads
    }


def _pretrained_features(stage: Stage, store: FeatureStore, rows: np.ndarray) -> Stored:
    model = store.run.recipe.model_of(stage.name)
    backbone = load_backbone(store.run, PRETRAINED, stage.image_px, stage.patch_stride, model)
    encoder = Encoder.of(backbone.to(store.accelerator.device), model, stage.image_px, stage.patch_stride)
    return store.get(encoder, "plain", rows)


@torch.no_grad()
def _embeddings(name: str, store: FeatureStore, rows: np.ndarray) -> np.ndarray:
    run = store.run
    teacher, model = run.recipe.stage(name), run.recipe.model_of(name)
    backbone = load_backbone(run, name, teacher.image_px, teacher.patch_stride).to(store.accelerator.device)
    encoder = Encoder.of(backbone, model, teacher.image_px, teacher.patch_stride)
    features, neck = store.get(encoder, "plain", rows), load_neck(run, name)
    found = []
    for start in range(0, len(rows), BLOCK):  # a large teacher's features of all images would not fit into memory
        block = slice(start, start + BLOCK)
        inputs = sized(features[block], store.packed, rows[block], teacher.neck)
        found.append(neck(torch.from_numpy(np.array(inputs))).float().numpy())
    return np.concatenate(found)
