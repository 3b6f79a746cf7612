"""Copies of settings with some nested fields changed."""

from dataclasses import replace
from typing import Any, TypeVar

Tree = TypeVar("Tree")


def changed(tree: Tree, **words: Any) -> Tree:
    """A copy with fields replaced. Two underscores name a nested field: `changed(HEAD, optim__lr=1.0,
    cost__n_parts=4)`."""
    own: dict[str, Any] = {}
    for path, value in words.items():
        name, _, rest = path.partition("__")
        own[name] = changed(own.get(name, getattr(tree, name)), **{rest: value}) if rest else value
    return replace(tree, **own)  # type: ignore[type-var]
