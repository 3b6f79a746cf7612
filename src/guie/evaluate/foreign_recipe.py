"""The settings that the folds of `guie foreign` depend on. By them the results of one recipe are told from
another's."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from guie.settings.names import PRETRAINED
from guie.settings.recipe import Recipe
from guie.settings.stage import Stages

READ = ("model", "data", "stages", "embed.settings", "embed.fit_on", "embed.precision", "embed.storage")


def head_only(recipe: Recipe) -> Recipe:
    """The recipe with its first phase alone, on the pretrained backbone, and the settings that need no more. It exports
    nothing, so that the last of them may have any number of dimensions.

    Raises:
        ValueError: it has no such stage, or no setting that asks it.
    """
    stages = Stages(head=recipe.stages.head)
    known = {PRETRAINED, *(row.name for row in stages)}
    settings = tuple(row for row in recipe.embed.settings if {member.stage for member in row.members} <= known)
    if not stages.head or not settings:
        what = "stage in stages.head" if not stages.head else "setting in embed.settings whose members are head stages"
        raise ValueError(f"--head-only: recipe {recipe.name} has no {what}; leave the option out")
    return replace(recipe, stages=stages, embed=replace(recipe.embed, settings=settings, dim=0)).validate()


def read_by_folds(recipe: Recipe) -> dict[str, Any]:
    """What the folds of a recipe read of it, by path, as JSON has it; the seed and the foreign domain are each fold's
    own."""
    plain = replace(recipe, data=replace(recipe.data, foreign_domain=""))
    found: dict[str, Any] = json.loads(json.dumps(plain.values_of(READ)))
    return found
