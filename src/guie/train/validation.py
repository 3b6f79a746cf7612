"""Retrieval scores of a model on the validation images, or on the classes that its stage leaves out."""

from __future__ import annotations

import numpy as np
import torch

from guie.embed.features import Encoder, FeatureStore
from guie.embed.retrieval import retrieve, summarise
from guie.embed.sizes import sized
from guie.model.embedder import Embedder
from guie.run import Run
from guie.settings.stage import Stage
from guie.train.train_set import val_rows


def validated(run: Run, stage: Stage, model: Embedder, store: FeatureStore, is_kept: bool) -> dict[str, float]:
    """Scores in one merged index over all domains, plain view, the stage's resolution.

    Args:
        run: Whose recipe.
        stage: Gives resolution, patch stride and backbone.
        model: What is scored.
        store: Of the images of both splits; each process extracts its share.
        is_kept: Whether the features stay in the cache for door 07. Those that were there before stay anyway: they are
            another row's with the same backbone.

    Returns:
        mp5, r1 and their values by domain.
    """
    rows = val_rows(store.packed.index, stage)
    encoder = Encoder.of(model.backbone, run.recipe.model_of(stage.name), stage.image_px, stage.patch_stride)
    others = frozenset() if is_kept else store.cached(encoder, "plain", rows)
    features = store.get(encoder, "plain", rows)
    inputs = sized(features, store.packed, rows, stage.neck)
    model.neck.eval()
    with torch.no_grad():
        embeddings = model.neck(torch.from_numpy(np.array(inputs)).to(store.accelerator.device)).cpu().numpy()
    if not is_kept:
        store.forget(encoder, "plain", rows, but=others)
    index = store.packed.index.iloc[rows]
    return summarise(retrieve(embeddings, index["class_id"].to_numpy()), index["domain"].to_numpy())
