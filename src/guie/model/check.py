"""Checks a recipe's networks before any image is read: their names, tags, features, input sizes and PCA dimensions."""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch

from guie.model.backbone import Backbone
from guie.model.libraries import build_network
from guie.model.normalisation import MeanStd, log_normalisation
from guie.model.patch_drop import drop_patches
from guie.model.patches import set_resolution
from guie.model.pooling import take_feature
from guie.settings.model import Model
from guie.settings.recipe import Recipe

log = logging.getLogger(__name__)


def check_models(recipe: Recipe) -> MeanStd:
    """Checks the recipe's networks (`check_networks`); logs and returns the mean and std of the pixels.

    Raises:
        ValueError: see `check_networks` and `mean_std`.
    """
    check_networks(recipe)
    return log_normalisation(recipe)


def check_networks(recipe: Recipe) -> None:
    """Builds each network of the recipe on torch's meta device, without weights, and runs it at every input size that a
    stage or member needs.

    Raises:
        ValueError: the library does not have a name or tag; a network cannot have a feature, size or patch stride, or
            cannot leave out patches; or a PCA, also one that a neck starts from, has more dimensions than its input.
            The message names the field.
    """
    parts: dict[Model, int] = {}
    asked = _sizes(recipe)
    for model, sizes in _sizes_of_each(asked).items():
        with torch.device("meta"):
            network = build_network(model, has_tag_weights=False)
        _check_patch_drop(recipe, model, network)
        if not _runs_on_meta(network):
            log.debug("%s needs values to run; its sizes are not tried beforehand", model.name)
            continue
        for (image_px, patch_stride), field in sizes.items():
            trial = copy.deepcopy(network)
            try:
                set_resolution(trial, image_px, patch_stride)
                backbone = Backbone(trial, 0, take_feature(trial, model.feature)).eval()
            except ValueError as error:
                raise ValueError(f"{field}: model.name {model.name!r}: {error}") from error
            with torch.no_grad():
                parts[model] = backbone(torch.zeros(1, 3, image_px, image_px, device="meta")).shape[1]
            log.debug("%s at %d px: %d features", model.name, image_px, parts[model])
    known = [model for model in asked if all(each in parts for each in model.each)]
    widths = {model: sum(parts[each] for each in model.each) for model in known}
    _check_necks(recipe, widths)
    _check_pca(recipe, widths)


def _sizes_of_each(asked: dict[Model, dict[tuple[int, int], str]]) -> dict[Model, dict[tuple[int, int], str]]:
    """What `_sizes` gives, with a separate entry for each of the backbones that stand side by side."""
    found: dict[Model, dict[tuple[int, int], str]] = {}
    for model, sizes in asked.items():
        for each in model.each:
            found[each] = sizes | found.get(each, {})
    return found


def _check_patch_drop(recipe: Recipe, model: Model, network: Any) -> None:
    """Raises ValueError if a stage of this network leaves out patches, and the network cannot."""
    for stage in recipe.stages.trained:
        if stage.cost.patch_drop and recipe.model_of(stage.name) == model:
            try:
                drop_patches(copy.deepcopy(network), stage.cost.patch_drop)
            except ValueError as error:
                raise ValueError(f"stages.{stage.name}.cost.patch_drop: model.name {model.name!r}: {error}") from error


def _check_necks(recipe: Recipe, widths: dict[Model, int]) -> None:
    """Raises ValueError if a neck that starts as a PCA is wider than its network's features, whose widths are given."""
    for stage in recipe.stages.trained:
        width = widths.get(recipe.model_of(stage.name))
        if stage.start.has_pca_neck and width is not None and stage.neck.dim > width:
            raise ValueError(
                f"stages.{stage.name}.neck.dim is {stage.neck.dim}, more than the {width} numbers of a feature, of "
                "which start.has_pca_neck takes a PCA; take a smaller dim, or leave has_pca_neck out"
            )


def _check_pca(recipe: Recipe, widths: dict[Model, int]) -> None:
    """Raises ValueError if a PCA has more dimensions than its members' outputs. `widths` are the networks' feature
    widths; a PCA of a network without a known width is not checked."""
    for row in recipe.embed.settings:
        models = [recipe.model_of(member.stage) for member in row.members]
        if not row.pca_dim or any(
            member.output == "feature" and model not in widths
            for member, model in zip(row.members, models, strict=True)
        ):
            continue
        outputs = [
            widths[model] if member.output == "feature" else recipe.stage(member.stage).neck.dim
            for member, model in zip(row.members, models, strict=True)
        ]
        width = outputs[0] if row.combine == "mean" else sum(outputs)
        if row.pca_dim > width:
            raise ValueError(
                f"embed.settings.{row.name}.pca_dim is {row.pca_dim}, more than the {width} numbers that its members "
                "give"
            )


def _runs_on_meta(network: Any) -> bool:
    """Whether a network runs on the meta device at its own input size; custom operators may not support that."""
    side = (getattr(network, "pretrained_cfg", None) or {}).get("input_size", (3, 224, 224))[-1]
    side = getattr(network, "image_size", side)
    side = side[0] if isinstance(side, tuple) else side
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, side, side, device="meta"))
    except Exception:  # whatever the network raises
        return False
    return True


def _sizes(recipe: Recipe) -> dict[Model, dict[tuple[int, int], str]]:
    """For each network the pairs (image_px, patch_stride) that the recipe uses, each with the first field that sets
    it."""
    sizes: dict[Model, dict[tuple[int, int], str]] = {}
    for stage in recipe.stages.trained:
        sizes.setdefault(recipe.model_of(stage.name), {}).setdefault(
            (stage.image_px, stage.patch_stride), f"stages.{stage.name}.image_px"
        )
    for row in recipe.embed.settings:
        for member in row.members:
            asked = sizes.setdefault(recipe.model_of(member.stage), {})
            asked.setdefault(
                (member.image_px, member.patch_stride),
                f"embed.settings.{row.name}: the member {member.stage!r} at {member.image_px} px",
            )
    return sizes
