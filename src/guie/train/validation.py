"""Retrieval scores of an embedder on the validation images."""

from __future__ import annotations

import numpy as np
import torch
from accelerate import Accelerator

from guie.data.packing import PackedImages
from guie.done import outputs_digest
from guie.embed.ensemble import rows_of
from guie.embed.extract import FeatureRequest, digest_of_backbone, digest_of_rows, extract, precision_on
from guie.embed.retrieval import retrieve, summarise
from guie.embed.sizes import sized
from guie.model.embedder import Embedder
from guie.run import Run
from guie.settings.stage import Stage


def validated(run: Run, stage: Stage, embedder: Embedder, packed: PackedImages, accelerator: Accelerator, is_kept: bool) -> dict[str, float]:
    """Scores in one merged index over all domains, plain view, the stage's resolution.

    Args:
        run: Whose recipe, pack and cache.
        stage: Says resolution, patch stride and backbone.
        embedder: What is scored.
        packed: The images of both splits.
        accelerator: Of all processes; each extracts its share.
        is_kept: Whether the features stay in the cache for door 07.

    Returns:
        mp5, r1 and their values by domain.
    """
    rows, digest = rows_of(packed, "val"), digest_of_backbone(embedder.backbone)
    model = run.recipe.model_of(stage.name)
    pack, precision = outputs_digest(run.folder(3)), precision_on(accelerator.device)
    request = FeatureRequest(pack, digest, model, stage.image_px, "plain", digest_of_rows(rows), stage.patch_stride, precision)
    features = extract(run.cache, request, embedder.backbone, packed, rows, accelerator, run.recipe.embed.batch_size)
    embedder.neck.eval()
    inputs = sized(features, packed, rows, stage.neck)
    with torch.no_grad():
        embeddings = embedder.neck(torch.from_numpy(np.array(inputs)).to(accelerator.device)).cpu().numpy()
    accelerator.wait_for_everyone()
    if not is_kept and accelerator.is_main_process:
        for ending in (".json", ".npy"):
            (run.cache / f"{request.key}{ending}").unlink()
    accelerator.wait_for_everyone()  # or another process would take it for there when the same backbone is scored again
    index = packed.index.iloc[rows]
    return summarise(retrieve(embeddings, index["class_id"].to_numpy()), index["domain"].to_numpy())
