"""Settings from plain values: the inverse of `guie.settings.recipe.plain`, which writes `recipe.json`."""

from __future__ import annotations

import types
import typing
from dataclasses import is_dataclass
from typing import Any

from guie.settings.fields import classes_of, hints_of, joined, kinds_of, nearest
from guie.settings.recipe import Recipe


def recipe_of(values: Any) -> Recipe:
    """The recipe whose `plain` form these values are.

    Missing fields get their defaults, because a file of an older version of the project may lack them.

    Args:
        values: Dictionaries, lists, texts and numbers, as JSON gives them.

    Raises:
        ValueError: a field or a kind is unknown, a needed field is missing, or a value cannot be.
    """
    recipe = _read(values, Recipe, "")
    if not isinstance(recipe, Recipe):
        raise ValueError(f"a recipe is a dictionary of its sections, not {type(values).__name__}")
    return recipe.validate()


def _read(value: Any, hint: Any, at: str) -> Any:
    """A value of a field of type `hint`, which lies at the path `at`."""
    kinds = kinds_of(hint)
    if isinstance(value, dict):
        return _settings(value, hint, at)
    if isinstance(value, list):
        rows = next((kind for kind in kinds if typing.get_origin(kind) is tuple), None)
        if rows is None:
            raise ValueError(f"{at} is a list, which it cannot be")
        arguments = typing.get_args(rows)
        same = arguments[1:] == (Ellipsis,)
        if not same and len(arguments) != len(value):
            raise ValueError(f"{at} has {len(value)} values, must have {len(arguments)}")
        return tuple(_read(item, arguments[0 if same else i], joined(at, str(i))) for i, item in enumerate(value))
    if value is None and types.NoneType not in kinds:
        raise ValueError(f"{at} is null, which it cannot be")
    return value


def _settings(values: dict[str, Any], hint: Any, at: str) -> Any:
    """A settings object of its fields' plain values."""
    classes: dict[str, Any] = {
        kind.__name__: kind for kind in kinds_of(hint) if isinstance(kind, type) and is_dataclass(kind)
    }
    fields = dict(values)
    if not classes:
        raise ValueError(f"{at} is a dictionary, which it cannot be")
    name = next(iter(classes))
    if len(classes_of(hint)) > 1:  # only then `plain` has added the name of the class
        name = str(fields.pop("kind", ""))
    if name not in classes:
        raise ValueError(f"{at}.kind is {name!r}; {nearest(name, list(classes))}")
    hints = hints_of(classes[name])
    for field in fields:
        if field not in hints:
            raise ValueError(f"{joined(at, field)} is unknown: {name} has no field {field!r}")
    read = {field: _read(value, hints[field], joined(at, field)) for field, value in fields.items()}
    try:
        return classes[name](**read)
    except TypeError as error:  # a field without a default is missing
        raise ValueError(f"{at or name}: {error}") from error
