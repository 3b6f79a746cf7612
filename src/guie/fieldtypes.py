"""Whether every field of a tree of dataclasses holds what its type says; Python itself does not look."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import is_dataclass
from typing import Any


def check_types(tree: Any, path: str = "") -> None:
    """Raises ValueError at the first field that holds another type, with its path, its value and what to write.

    Args:
        tree: A dataclass whose fields are str, int, float, bool, dataclasses, or tuples of those; a whole number may stand for a float.
        path: Its own place, for messages.
    """
    hints = typing.get_type_hints(type(tree))
    for field in dataclasses.fields(tree):
        place = f"{path}.{field.name}" if path else field.name
        _check(getattr(tree, field.name), hints[field.name], place)


def _check(value: Any, hint: Any, place: str) -> None:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):  # of a dataclass and None
        if value is not None:
            _check(value, next(kind for kind in arguments if kind is not type(None)), place)
        return
    if origin is tuple:
        _check_tuple(value, arguments, place)
        return
    is_right = type(value) is hint or (hint is float and type(value) is int) or (isinstance(hint, type) and is_dataclass(hint) and isinstance(value, hint))
    if not is_right:
        raise ValueError(f"{place} is {_shown(value)}, must be {_named(hint)}{_remedy(value, hint)}")
    if is_dataclass(value):
        check_types(value, place)


def _check_tuple(value: Any, arguments: tuple[Any, ...], place: str) -> None:
    kind = arguments[0]
    items = _named(kind).split(" ", 1)[1]
    many = f"a tuple of {items}s" if arguments[1:] == (Ellipsis,) else f"a tuple of {len(arguments)} {items}s"
    if not isinstance(value, tuple):
        inner = f": write ({value!r},)" if type(value) is kind or is_dataclass(value) else ": write (...) instead of [...]" if isinstance(value, list) else ""
        raise ValueError(f"{place} is {_shown(value)}, must be {many}{_short(inner)}")
    if arguments[1:] != (Ellipsis,) and len(value) != len(arguments):
        raise ValueError(f"{place} is {_shown(value)}, must be {many}")
    for i, item in enumerate(value):
        _check(item, kind, f"{place}.{_name_of(item, i)}")


def _name_of(item: Any, i: int) -> str:
    """As --set reaches it: by its name, or its number."""
    name = getattr(item, "name", None)
    return name if isinstance(name, str) and is_dataclass(item) else str(i)


def _named(hint: Any) -> str:
    words = {str: "a text", int: "a whole number", float: "a number", bool: "True or False"}
    return words.get(hint) or f"{'an' if hint.__name__[0] in 'AEIOU' else 'a'} {hint.__name__}"


def _remedy(value: Any, hint: Any) -> str:
    if hint in (int, float) and isinstance(value, str):
        return ": write it without quotes"
    if hint in (int, float) and not isinstance(value, bool) and hasattr(value, "item"):  # numpy's and torch's
        return f": write {hint.__name__}(...) around it"
    if isinstance(hint, type) and is_dataclass(hint):
        return f": write {hint.__name__}({', '.join(field.name for field in dataclasses.fields(hint))})" if not is_dataclass(value) else ""
    return ""


def _shown(value: Any) -> str:
    return f"{_short(repr(value))} ({type(value).__name__})"


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
