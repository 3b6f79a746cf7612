"""Backbones between the one that a row started from and the tuned one. Source: WiSE-FT, Wortsman et al., CVPR 2022."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from guie.embed.ensemble import load_backbone, stage_weights
from guie.embed.features import FeatureStore
from guie.run import Run
from guie.settings.mixed import Interpolate
from guie.train.model import Model
from guie.train.sharding import of_process_0
from guie.train.validation import validated

log = logging.getLogger(__name__)


def interpolated(start: dict[str, Tensor], tuned: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """(1 - share) * start + share * tuned of the tensors that both have, computed in float64, of the tuned ones' types.
    Counters, and what only the tuned weights have, are the tuned ones'.

    Args:
        start: By name; each is among the tuned ones, with the same shape.
        tuned: By name.
        share: From 0 to 1; at both ends the result is equal to that end's weights.
    """
    between = {
        name: ((1 - share) * tensor.double() + share * tuned[name].double()).to(tuned[name].dtype)
        for name, tensor in start.items()
        if tensor.is_floating_point()
    }
    return tuned | between


def interpolate_weights(run: Run, row: Interpolate, model: Model, store: FeatureStore) -> dict[str, float]:
    """Fills `model` with the row's weights: those of its share, or of the share that validation chooses.

    Args:
        run: Whose rows are read.
        row: One of the recipe's.
        model: Of the tuned row's shape.
        store: Of the images of both splits.

    Returns:
        The `share` that was taken.
    """
    stage, backbone_model = run.recipe.stage(row.name), run.recipe.model_of(row.name)
    tuned = {name: tensor.cpu() for name, tensor in stage_weights(run, row.of).items()}
    backbone = load_backbone(run, row.start, stage.image_px, stage.patch_stride, backbone_model)
    start = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    if all(torch.equal(tensor, tuned[name]) for name, tensor in start.items()):
        log.warning("stage %s: %s and %s have one and the same backbone", row.name, row.start, row.of)

    def fill(share: float) -> None:
        model.load_state_dict(model.state_dict() | interpolated(start, tuned, share))  # objective's buffers: not stored

    scores: dict[float, float] = {}
    for share in row.shares if len(row.shares) > 1 else ():
        fill(share)
        is_end = share in (0.0, 1.0)  # another row's own backbone, whose features door 07 may ask for
        mp5 = validated(run, stage, model, store, is_kept=is_end)["mp5"]
        scores[share] = of_process_0(mp5, store.accelerator)  # cards may round differently, and all must choose alike
        log.info("stage %s: %g of %s has mP@5 %.4f", row.name, share, row.of, scores[share])
    chosen = max(scores, key=lambda share: scores[share]) if scores else row.shares[0]
    fill(chosen)
    return {"share": chosen}
