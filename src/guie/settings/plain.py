"""Turns settings into values that JSON can hold."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any

from guie.settings.fields import classes_of, hints_of, items_of
from guie.settings.stage import Stages


def plain(value: Any, is_choice: bool = False) -> Any:
    """Settings as what JSON has: dicts, lists, texts, numbers.

    Args:
        value: Settings, a tuple of them, or a plain value.
        is_choice: The field may hold settings of several classes, so that `kind` names the class.
    """
    if isinstance(value, tuple):
        return [plain(item, is_choice) for item in value]
    if not is_dataclass(value):
        return value
    hints = hints_of(type(value))
    fields = {field.name: plain(own, len(classes_of(hints[field.name])) > 1) for field, own, _ in items_of(value)}
    return {"kind": type(value).__name__, **fields} if is_choice else fields


def plain_at(node: Any, path: str) -> Any:
    """The plain value at a path such as `data.sources` or `stages.s1.image_px`."""
    is_choice = False
    for key in path.split("."):
        if isinstance(node, tuple):
            node = next(item for item in node if item.name == key)
            continue
        if isinstance(node, Stages):
            node = next(row for row in node if row.name == key)
            continue
        is_choice = len(classes_of(hints_of(type(node))[key])) > 1
        node = getattr(node, key)
    return plain(node, is_choice)
