"""Changes one field of a tree of settings, as `--set stages.s02_backbone.optim.n_epochs=1` asks."""

from __future__ import annotations

import contextlib
import dataclasses
import types
import typing
from dataclasses import MISSING, is_dataclass, replace
from typing import Any, TypeVar

from guie.settings.fields import classes_of, hints_of, is_pair, items_of, joined, kinds_of, name_of, nearest
from guie.settings.moved import GONE, kinds_with, new_path

Tree = TypeVar("Tree")


def override_field(tree: Tree, text: str) -> Tree:
    """A copy of a tree of settings with one field changed.

    Args:
        tree: Frozen dataclasses and tuples of them.
        text: `PATH=VALUE`. The value of a field that may hold several kinds of settings is the name of a class, with
            its defaults: `stages.s1.objective=CosFace`. Of a tuple of kinds it is several names:
            `embed.fit_on=FitImages,FitWords`, whose fields then are `embed.fit_on.0.sources`. The value of a field of
            named rows is the names of those that are kept: `data.sources=gldv2,products10k`.

    Raises:
        ValueError: the text has no `=`, there is no such field (the message suggests a path), or the value does not fit
            the field's type.
    """
    path, sep, value = text.partition("=")
    if not sep:
        raise ValueError(f"--set {text!r} has no '='; write --set field.path=value, for instance --set seed=1")
    result = _Change(path.strip(), value.strip()).within(tree, path.strip().split("."), "")
    assert isinstance(result, type(tree))
    return result


@dataclasses.dataclass(frozen=True)
class _Change:
    """The change that one --set asks for."""

    path: str
    value: str

    def within(self, node: Any, keys: list[str], at: str) -> Any:
        """A copy of `node`, which lies at the path `at`, with the field at `keys` below it changed."""
        key, rest = keys[0], keys[1:]
        if isinstance(node, tuple) and node and all(is_dataclass(item) for item in node):
            return self._row(node, key, rest, at)
        if not is_dataclass(node):
            raise ValueError(f"--set {self.path}: there is no {key!r}, since the part before it is a single value")
        unnamed = {field.name: value for field, value, is_unnamed in items_of(node) if is_unnamed}
        if unnamed:
            name = self._holder(unnamed, key)
            return replace(node, **{name: self._row(unnamed[name], key, rest, at)})  # type: ignore[type-var]
        named = [field.name for field, _, _ in items_of(node)]
        if key not in named:
            raise ValueError(f"--set {self.path}: {self._missing(node, key, named, at)}")
        return replace(node, **{key: self._field(node, key, rest, at)})  # type: ignore[type-var]

    def _holder(self, unnamed: dict[str, tuple[Any, ...]], key: str) -> str:
        """The field whose tuple has an item called `key`. Paths name such items, but not their field.

        Raises:
            ValueError: no tuple has it.
        """
        for name, items in unnamed.items():
            if any(item.name == key for item in items):
                return name
        known = [item.name for items in unnamed.values() for item in items]
        raise ValueError(f"--set {self.path}: no {key!r} here; {nearest(key, known)}")

    def _field(self, node: Any, key: str, rest: list[str], at: str) -> Any:
        """The new value of the field `key` of `node`.

        Args:
            node: Settings that have the field.
            key: The field's name.
            rest: The parts of the path after it; empty if the field itself is set.
            at: The path of `node`.

        Raises:
            ValueError: the value has the wrong type, or only another kind of settings has the field.
        """
        if not rest and _is_of_rows(hints_of(type(node))[key]):
            return self._kept(getattr(node, key))
        if not rest:
            return self._converted(self.value, hints_of(type(node))[key])
        value = getattr(node, key)
        place = joined(at, key)
        has = hints_of(type(value)) if is_dataclass(value) else {}
        if rest[0] not in has and not isinstance(value, tuple) and (kinds := kinds_with(node, key, rest[0])):
            lack = f"{type(value).__name__} has no field {rest[0]!r}" if is_dataclass(value) else f"{place} is {value}"
            raise ValueError(f"--set {self.path}: {lack}; {self._first(kinds, rest[0], place)}")
        return self.within(value, rest, place)

    def _row(self, items: tuple[Any, ...], key: str, rest: list[str], at: str) -> tuple[Any, ...]:
        """A copy of `items`, with a field of the item called `key` changed."""
        names = [name_of(item, i) for i, item in enumerate(items)]
        if key not in names:
            raise ValueError(f"--set {self.path}: no {key!r} here; {nearest(key, names)}")
        i = names.index(key)
        if not rest:
            fields = ", ".join(field.name for field, _, _ in items_of(items[i]))
            raise ValueError(f"--set {self.path}: names a whole row; name one of its fields: {fields}")
        return (*items[:i], self.within(items[i], rest, joined(at, key)), *items[i + 1 :])

    def _kept(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        """The rows that the value names, separated by commas, in the order of the recipe; none without a value.

        Raises:
            ValueError: a name is that of no row.
        """
        wanted = [name.strip() for name in self.value.split(",") if name.strip()]
        names = [item.name for item in items]
        for name in wanted:
            if name not in names:
                remedy = nearest(name, names) if names else "there is none; write it into a recipe file"
                text = f"--set {self.path}={self.value}: keeps rows by their names, and {name!r} is none"
                raise ValueError(f"{text}; {remedy}")
        return tuple(item for item in items if item.name in wanted)

    def _first(self, kinds: list[type], field: str, place: str) -> str:
        """For a message: which kinds have the field, and the --set that makes `place` one of them."""
        names = " and ".join(kind.__name__ for kind in kinds) if len(kinds) < 4 else f"{kinds[0].__name__} and others"
        has = f"{names} {'has' if len(kinds) == 1 else 'have'} {field}"
        if needed := _without_default(kinds[0]):
            return f"{has}, but no default for {', '.join(needed)}: write it into a recipe file"
        return f"{has}: --set {place}={kinds[0].__name__} first"

    def _missing(self, node: Any, key: str, known: list[str], at: str) -> str:
        """For a message: the class has no such field, and which path may be meant."""
        found = new_path(type(node), key)
        hint = GONE.get(key) or (f"did you mean {joined(at, found)}?" if found else nearest(key, known))
        return f"{type(node).__name__} has no field {key!r}; {hint}"

    def _converted(self, text: str, hint: Any) -> Any:
        """The value of `text`, as one of the types of a field."""
        kinds = kinds_of(hint)
        if types.NoneType in kinds and text.lower() == "none":
            return None
        classes = {kind.__name__: kind for kind in classes_of(hint) if kind in kinds}
        if text in classes:
            return self._fresh(classes[text])
        plain = [kind for kind in kinds if kind is not types.NoneType and not is_dataclass(kind)]
        if not plain and len(classes) > 1:
            raise ValueError(f"--set {self.path}={text}: takes a kind; {nearest(text, list(classes))}")
        if not plain:
            raise ValueError(
                f"--set {self.path}={text}: takes no single value; set one of its fields, or write a recipe file"
            )
        try:
            return self._as(text, plain[0])
        except ValueError as error:
            others = f", or a kind: {', '.join(classes)}" if classes else ""
            raise ValueError(f"{error}{others}") from None

    def _fresh(self, kind: type) -> Any:
        """A settings object with its defaults."""
        if needed := _without_default(kind):
            raise ValueError(
                f"--set {self.path}={kind.__name__}: it has no default for {', '.join(needed)}; write a recipe file"
            )
        return kind()

    def _named(self, text: str, classes: tuple[type, ...]) -> tuple[Any, ...]:
        """The settings of some of the classes, with their defaults; their names are separated by commas."""
        names = [part.strip() for part in text.split(",") if part.strip()]
        by_name = {kind.__name__: kind for kind in classes}
        for name in names:
            if name not in by_name:
                raise ValueError(f"--set {self.path}={text}: takes kinds; {nearest(name, list(by_name))}")
        return tuple(self._fresh(by_name[name]) for name in names)

    def _pair(self, text: str) -> tuple[str, int | float | bool | str]:
        """The name and the value of `margin=0.2`."""
        name, sep, value = text.partition("=")
        if not sep:
            raise ValueError(f"--set {self.path}={self.value}: takes name=value, several separated by commas")
        for kind in (bool, int, float):
            with contextlib.suppress(ValueError):
                return name.strip(), self._as(value.strip(), kind)
        return name.strip(), value.strip()

    def _several(self, text: str, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
        """Values separated by commas; `kinds` are the arguments of the tuple's type."""
        parts = [part.strip() for part in text.split(",") if part.strip()]
        if kinds[1:] != (Ellipsis,) and len(parts) != len(kinds):
            raise ValueError(f"--set {self.path}={text}: takes {len(kinds)} values, separated by commas")
        return tuple(self._as(part, kinds[0]) for part in parts)

    def _as(self, text: str, kind: Any) -> Any:
        """The value of `text`, as str, bool, int, float, a `Literal` word, or a tuple of those written with commas."""
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is tuple and is_pair(arguments[0]):
            return tuple(self._pair(part.strip()) for part in text.split(",") if part.strip())
        if origin is tuple and len(classes_of(kind)) > 1:
            return self._named(text, classes_of(kind))
        if origin is tuple and not is_dataclass(arguments[0]) and len(kinds_of(arguments[0])) == 1:
            return self._several(text, arguments)
        if kind is str or origin is typing.Literal:
            return text
        if kind is bool:
            if text.lower() in ("true", "false"):
                return text.lower() == "true"
            raise ValueError(f"--set {self.path}={text}: takes true or false")
        if kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                words = "a whole number" if kind is int else "a number"
                raise ValueError(f"--set {self.path}={text}: takes {words}") from None
        raise ValueError(
            f"--set {self.path}={text}: takes no single value; set one of its fields, or write a recipe file"
        )


def _is_of_rows(hint: Any) -> bool:
    """Whether a field holds a tuple of settings of one class, which are told apart by their names."""
    kinds = [kind for kind in kinds_of(hint) if typing.get_origin(kind) is tuple]
    rows = classes_of(kinds[0]) if len(kinds) == 1 else ()
    return len(rows) == 1 and "name" in hints_of(rows[0])


def _without_default(kind: Any) -> list[str]:
    """The fields of a settings class that must be given."""
    return [f.name for f in dataclasses.fields(kind) if f.default is MISSING and f.default_factory is MISSING]
