"""A recipe as the text of a Python file that people can read, edit and run again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

from guie.settings.recipe import Recipe

WIDTH = 100  # columns of a line, so that it can be indented by hand


def recipe_text(recipe: Recipe, docstring: str) -> str:
    """A Python file that defines `RECIPE`, equal to `recipe`. Fields that have their default values are left out.

    Args:
        recipe: Any recipe.
        docstring: The file's own, without quotes.
    """
    kinds = sorted({type(node).__name__ for node in _settings_in(recipe)})
    imports = "from guie.recipe import (\n" + "".join(f"    {kind},\n" for kind in kinds) + ")\n"
    return f"{_quoted(docstring)}\n\n{imports}\nRECIPE = {_text(recipe, 0)}\n"


def _quoted(docstring: str) -> str:
    """The docstring in quotes; raw where it holds backslashes, so that a command in it can be copied."""
    if '"""' in docstring:
        return repr(docstring)
    return f'{"r" if chr(92) in docstring else ""}"""{docstring}"""'


def _settings_in(node: Any) -> Iterator[Any]:
    """All settings objects in a tree whose values are not the defaults."""
    if isinstance(node, tuple):
        for item in node:
            yield from _settings_in(item)
    elif is_dataclass(node):
        yield node
        for _, value in _changed(node):
            yield from _settings_in(value)


def _changed(node: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of the fields that have no default, or another value."""
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if field.init and (field.default is dataclasses.MISSING or value != field.default):
            yield field.name, value


def _text(value: Any, indent: int) -> str:
    """The Python expression of a value, over several lines if one is too long."""
    if isinstance(value, tuple):
        opening, closing = "(", ")"
        parts = [_text(item, indent + 4) for item in value]
        if len(parts) == 1 and "\n" not in parts[0]:
            return f"({parts[0]},)"
    elif is_dataclass(value):
        opening, closing = f"{type(value).__name__}(", ")"
        parts = [f"{name}={_text(item, indent + 4)}" for name, item in _changed(value)]
    elif isinstance(value, str) and '"' not in value:
        return f'"{repr(value)[1:-1]}"' if "'" not in value else repr(value)
    else:
        return repr(value)
    line = opening + ", ".join(parts) + closing
    if len(line) + indent <= WIDTH and "\n" not in line:
        return line
    margin = " " * (indent + 4)
    return opening + "\n" + "".join(f"{margin}{part},\n" for part in parts) + " " * indent + closing
