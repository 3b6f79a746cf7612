"""One field of a tree of dataclasses, changed from a text: `--set stages.s02_backbone.n_epochs=1`."""

from __future__ import annotations

import difflib
import types
import typing
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

Tree = TypeVar("Tree")


def override_field(tree: Tree, text: str) -> Tree:
    """A copy of `tree` (frozen dataclasses and tuples of them) with one field changed, from a text such as `stages.s02_backbone.n_epochs=1`.

    Raises:
        ValueError: no `=`, no such field, or a value that the field's type does not take.
    """
    path, sep, value = text.partition("=")
    if not sep:
        raise ValueError(f"--set {text!r} has no '='; write --set field.path=value, for instance --set seed=1")
    result = _replaced(tree, path.strip().split("."), value.strip(), path)
    assert isinstance(result, type(tree))
    return result


def _replaced(node: Any, keys: list[str], value: str, whole: str) -> Any:
    """`node` with the leaf at `keys` replaced by the converted `value`."""
    key, rest = keys[0], keys[1:]
    if isinstance(node, tuple) and all(is_dataclass(item) for item in node):
        names = [getattr(item, "name", str(i)) for i, item in enumerate(node)]
        if key not in names:
            raise ValueError(f"--set {whole}: no {key!r} here; {nearest(key, names)}")
        i = names.index(key)
        if not rest:
            raise ValueError(f"--set {whole}: names a whole row; name one of its fields: {', '.join(f.name for f in fields(node[i]))}")
        return (*node[:i], _replaced(node[i], rest, value, whole), *node[i + 1 :])
    if not is_dataclass(node):
        raise ValueError(f"--set {whole}: {key!r} goes deeper than the field does")
    names = [f.name for f in fields(node)]
    if key not in names:
        raise ValueError(f"--set {whole}: {type(node).__name__} has no field {key!r}; {nearest(key, names)}")
    if rest:
        return replace(node, **{key: _replaced(getattr(node, key), rest, value, whole)})  # type: ignore[type-var]
    hint = typing.get_type_hints(type(node))[key]
    return replace(node, **{key: _converted(value, hint, whole)})  # type: ignore[type-var]


def _converted(text: str, hint: Any, whole: str) -> Any:
    """`text` as the type `hint`: str, bool, int, float, or a tuple of those written with commas; `none` where the field may be None."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType and args[-1] is types.NoneType and typing.get_origin(args[0]) is tuple:
        return None if text.lower() == "none" else _converted(text, args[0], whole)
    if origin is tuple and args and args[0] in (str, int, float):
        parts = [p.strip() for p in text.split(",") if p.strip()]
        if (len(args) != 2 or args[1] is not Ellipsis) and len(parts) != len(args):
            raise ValueError(f"--set {whole}={text}: takes {len(args)} values, separated by commas")
        return tuple(_converted(p, args[0], whole) for p in parts)
    if hint is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise ValueError(f"--set {whole}={text}: takes true or false")
    if hint in (int, float, str):
        try:
            return hint(text)
        except ValueError:
            raise ValueError(f"--set {whole}={text}: takes {'a whole number' if hint is int else 'a number'}") from None
    raise ValueError(f"--set {whole}: is no single value; set one of its fields, or write a recipe file")


def nearest(name: str, known: list[str]) -> str:
    """`did you mean ...?` with the name most like `name`, or the list of all when none is."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
