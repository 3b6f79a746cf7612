"""Where a field went that recipes and --set once knew by another path."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any

from guie.settings.fields import hints_of, items_of, joined, kinds_of

# Fields that have another name now, and their path below the same class. Those that only moved are found by name.
RENAMED = {
    "classifier": "objective",
    "margin": "objective.margin_rad",
    "class_margin": "objective.margin_rad",
    "starts_from": "start.of",
    "embedding_dim": "neck.dim",
    "dropout": "neck.dropouts",
    "optimizer": "optim.method",
    "layer_decay": "optim.blocks.factor",
    "block_edges": "optim.blocks.edges",
    "block_factors": "optim.blocks.factors",
    "n_accumulate": "cost.n_parts",
    "n_cached_views": "cost.n_cached_augmentations",
    "sample_power": "sampling.power",
    "validate_every": "validation.every_epochs",
    "start_rad": "start",
    "step_rad": "step",
    "max_rad": "max",
    "low_rad": "low",
    "high_rad": "high",
    "beta_rate": "beta_lr_factor",
    "has_class_betas": "has_class_beta",
}

# Fields that a stage no longer has, and the fields that replace them.
GONE = {
    "phase": "the phase follows from the place: Stages(head=(...), backbone=(...), highres=(...))",
    "soup": "a soup is a separate kind of row: Soup(name, of=(...))",
    "is_greedy": "a soup is a separate kind of row: Soup(name, of=(...), is_greedy=True)",
}
# Classes of settings that have another name now.
KINDS = {"EpochMargin": "GrowingMargin", "ClassFrequencyMargin": "ClassMargin", "NeckShape": "Neck"}


def new_path(kind: type, key: str) -> str:
    """The path below a settings class at which a field that it lacks is found, or '' where there is none.

    `optim.lr` for `lr` of a stage; for a field that only another kind has, `objective.margin_cosine`.
    """
    known = RENAMED.get(key, "")
    if known and known.split(".")[0] in hints_of(kind):
        return known
    for name, hint in hints_of(kind).items():
        for inner in _kinds(hint):
            if key in hints_of(inner):
                return joined(name, key)
    for name, hint in hints_of(kind).items():
        for inner in _kinds(hint):
            if found := new_path(inner, key):
                return joined(name, found)
    return ""


def kinds_with(node: Any, name: str, key: str) -> list[type]:
    """The classes that the field `name` of `node` may hold and that have the field `key`."""
    if name not in {field.name for field, _, _ in items_of(node)}:
        return []
    return [kind for kind in _kinds(hints_of(type(node))[name]) if key in hints_of(kind)]


def _kinds(hint: Any) -> list[type]:
    """The settings classes that a field may hold; not those of a tuple's items, which only their own names reach."""
    return [kind for kind in kinds_of(hint) if isinstance(kind, type) and is_dataclass(kind)]
